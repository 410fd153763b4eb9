#include "eval/report_tables.hpp"

#include <fmt/format.h>

#include "eval/report_chart.hpp"

namespace kquant {
namespace {

std::string percent(double share) {
  return fmt::format("{:.2f} %", 100 * share);
}

ReportTable costs(const Report& report, const ReportModel& model) {
  ReportTable table{
      "Size and speed",
      {"level", "bits/weight", "MiB", "of the reference", "decode, tokens/s", "prefill, tokens/s"},
      {},
      {},
      model.recommended};
  if (report.has_text) table.head.push_back("perplexity");
  if (report.has_divergence)
    for (const char* const column : {"KL divergence, nats", "KL 99 %", "same top token"})
      table.head.push_back(column);
  for (const ReportLevel& level : model.levels) {
    const ModelFacts& f = *level.facts;
    std::vector<std::string> row = {
        level.name, fmt::format("{:.3f}", f.bits_per_weight),
        fmt::format("{:.2f}", static_cast<double>(f.bytes) / (1 << 20))};
    row.push_back(
        model.reference
            ? fmt::format("{:.0f} %",
                          100 * static_cast<double>(f.bytes) /
                              static_cast<double>(model.levels[*model.reference].facts->bytes))
            : "");
    row.push_back(fmt::format("{:.0f}", f.decode_tokens_per_second));
    row.push_back(fmt::format("{:.0f}", f.prefill_tokens_per_second));
    if (report.has_text)
      row.push_back(level.text ? fmt::format("{:.4f} ± {:.4f}", level.text->perplexity,
                                             level.text->perplexity_error)
                               : "");
    if (report.has_divergence) {
      const auto* const d =
          level.text && level.text->divergence ? &*level.text->divergence : nullptr;
      row.push_back(d ? fmt::format("{:.6f} ± {:.6f}", d->kl.mean, d->kl.error) : "");
      row.push_back(d ? fmt::format("{:.5f}", d->kl_p99) : "");
      row.push_back(d ? percent(d->same_top.mean) : "");
    }
    table.rows.push_back(std::move(row));
  }
  table.notes.push_back(
      "Speed: one sequence, median of three runs, on the machine that made the study.");
  return table;
}

ReportTable answers(const Report& report, const ReportModel& model, const ReportTask& task) {
  ReportTable table;
  table.caption =
      fmt::format("{} ({}{})", task.name, task.mode == "loglik" ? "likeliest choice" : task.mode,
                  task.is_code() ? ", pass@1" : "");
  table.head = {"level", "right", "95 % interval", "right→wrong", "wrong→right", "McNemar's p"};
  table.marked = model.recommended;
  bool pass_5 = false, strict = false;
  for (const ReportLevel& level : model.levels)
    if (const auto cell = level.cells.find(task.name); cell != level.cells.end()) {
      pass_5 = pass_5 || (task.is_code() && cell->second.summary.least_outputs >= 5);
      const Summary& s = cell->second.summary;
      strict = strict || s.strict_accuracy != s.accuracy;
    }
  if (pass_5) table.head.push_back("pass@5");
  if (strict) table.head.push_back("strict");
  table.head.push_back("no answer");
  std::size_t items = 0, too_long = 0;
  for (const ReportLevel& level : model.levels) {
    const auto found = level.cells.find(task.name);
    if (found == level.cells.end()) continue;
    const Summary& s = found->second.summary;
    const auto& flips = found->second.flips;
    const bool is_reference = level.name == report.reference;
    const auto flip = [&](std::size_t n) {
      return flips && !is_reference ? fmt::format("{}", n) : std::string("–");
    };
    std::vector<std::string> row = {
        level.name,
        percent(s.accuracy),
        fmt::format("{:.2f} … {:.2f}", 100 * s.interval.low, 100 * s.interval.high),
        flip(flips ? flips->right_to_wrong : 0),
        flip(flips ? flips->wrong_to_right : 0),
        flips && !is_reference ? fmt::format("{:.3g}", flips->p) : "–"};
    if (pass_5) row.push_back(percent(s.pass_5));
    if (strict) row.push_back(percent(s.strict_accuracy));
    row.push_back(fmt::format("{}", task.is_code() ? s.rejected : s.guessed));
    table.rows.push_back(std::move(row));
    items = std::max(items, s.items);
    too_long = std::max(too_long, found->second.too_long);
  }
  table.notes.push_back(fmt::format(
      "{} items. Flips are pairs against {}. {}", items, report.reference,
      task.is_code() ? "No answer: generations that the benchmark's own rules skip; strict counts "
                       "them as wrong."
                     : "No answer: scored as the expectation of a guess."));
  if (too_long > 0)
    table.notes.push_back(
        fmt::format("{} prompts were longer than the context and were not asked.", too_long));
  return table;
}

ReportTable categories(const ReportModel& model, const ReportTask& task) {
  ReportTable table{fmt::format("{} by category", task.name), {"category", "items"}, {}, {}, {}};
  std::map<std::string, std::vector<std::string>> rows;
  std::size_t columns = 0;
  for (const ReportLevel& level : model.levels) {
    const auto cell = level.cells.find(task.name);
    if (cell == level.cells.end()) continue;
    table.head.push_back(level.name);
    ++columns;
    for (const Summary::Category& category : cell->second.summary.categories) {
      auto& row = rows[category.name];
      if (row.empty()) row = {category.name, fmt::format("{}", category.items)};
      row.resize(1 + columns);
      row.push_back(fmt::format("{:.1f}", 100 * category.accuracy));
    }
  }
  for (auto& [name, row] : rows) table.rows.push_back(std::move(row));
  return table;
}

std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\n") == text.npos) return text;
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? "\"\"" : std::string(1, c);
  return out + "\"";
}

}  // namespace

std::vector<ReportTable> tables_of(const Report& report, const ReportModel& model) {
  std::vector<ReportTable> tables = {costs(report, model)};
  for (const ReportTask& task : report.tasks) {
    tables.push_back(answers(report, model, task));
    if (auto table = categories(model, task); table.rows.size() > 1)
      tables.push_back(std::move(table));
  }
  return tables;
}

std::string html(const ReportTable& table) {
  std::string out =
      fmt::format("<h3>{}</h3>\n<div class=\"wide\"><table>\n<tr>", escaped(table.caption));
  for (const std::string& cell : table.head) out += "<th>" + escaped(cell) + "</th>";
  out += "</tr>\n";
  for (std::size_t i = 0; i < table.rows.size(); ++i) {
    out += table.marked == i ? "<tr class=\"marked\">" : "<tr>";
    for (const std::string& cell : table.rows[i]) out += "<td>" + escaped(cell) + "</td>";
    out += "</tr>\n";
  }
  out += "</table></div>\n";
  for (const std::string& note : table.notes)
    out += "<p class=\"note\">" + escaped(note) + "</p>\n";
  return out;
}

std::string markdown(const ReportTable& table) {
  std::string out = fmt::format("### {}\n\n|", table.caption), rule = "\n|";
  for (std::size_t i = 0; i < table.head.size(); ++i) {
    out += " " + table.head[i] + " |";
    rule += i == 0 ? "---|" : "--:|";
  }
  out += rule + "\n";
  for (std::size_t i = 0; i < table.rows.size(); ++i) {
    out += "|";
    for (std::size_t column = 0; column < table.rows[i].size(); ++column)
      out += table.marked == i && column == 0 ? fmt::format(" **{}** |", table.rows[i][column])
                                              : fmt::format(" {} |", table.rows[i][column]);
    out += "\n";
  }
  for (const std::string& note : table.notes) out += "\n" + note + "\n";
  return out + "\n";
}

std::string csv(const Report& report) {
  std::string out = "model,level,task,measure,value,low,high\n";
  for (const ReportModel& model : report.models)
    for (const ReportLevel& level : model.levels) {
      const auto line = [&](const std::string& task, const char* measure, double value,
                            const std::string& low = "", const std::string& high = "") {
        out += fmt::format("{},{},{},{},{:.8g},{},{}\n", csv_field(model.name), level.name,
                           csv_field(task), measure, value, low, high);
      };
      const ModelFacts& f = *level.facts;
      line("", "bytes", static_cast<double>(f.bytes));
      line("", "bits_per_weight", f.bits_per_weight);
      line("", "decode_tokens_per_second", f.decode_tokens_per_second);
      line("", "prefill_tokens_per_second", f.prefill_tokens_per_second);
      if (level.text) {
        line("text", "perplexity", level.text->perplexity);
        if (const auto& d = level.text->divergence) {
          line("text", "kl_divergence", d->kl.mean);
          line("text", "same_top", d->same_top.mean);
        }
      }
      for (const auto& [task, cell] : level.cells) {
        const Summary& s = cell.summary;
        line(task, "accuracy", s.accuracy, fmt::format("{:.8g}", s.interval.low),
             fmt::format("{:.8g}", s.interval.high));
        line(task, "strict_accuracy", s.strict_accuracy);
        line(task, "items", static_cast<double>(s.items));
        line(task, "no_answer", static_cast<double>(s.guessed));
        if (s.least_outputs >= 5) line(task, "pass_5", s.pass_5);
        if (cell.flips) {
          line(task, "right_to_wrong", static_cast<double>(cell.flips->right_to_wrong));
          line(task, "wrong_to_right", static_cast<double>(cell.flips->wrong_to_right));
          line(task, "mcnemar_p", cell.flips->p);
        }
        for (const Summary::Category& category : s.categories)
          line(task + "/" + category.name, "accuracy", category.accuracy);
      }
    }
  return out;
}

}  // namespace kquant
