#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <set>
#include <sstream>

#include "program.hpp"

namespace kquant::ptx {
namespace {

bool is_space(char c) {
  return std::isspace(static_cast<unsigned char>(c)) != 0;
}
bool is_name(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '$';
}
std::string_view trimmed(std::string_view s) {
  while (!s.empty() && is_space(s.front())) s.remove_prefix(1);
  while (!s.empty() && is_space(s.back())) s.remove_suffix(1);
  return s;
}
std::vector<std::string> split(std::string_view s, char separator) {
  std::vector<std::string> parts;
  std::istringstream in{std::string(s)};
  for (std::string part; std::getline(in, part, separator);) parts.emplace_back(trimmed(part));
  return parts;
}
u32 number(std::string_view s) {
  return static_cast<u32>(std::strtoul(std::string(s).c_str(), nullptr, 0));
}
Type type_of(std::string_view name) {
  static const std::map<std::string_view, Type> types{
      {"pred", Type::kPred},    {"b8", Type::kU8},   {"u8", Type::kU8},   {"s8", Type::kS8},
      {"b16", Type::kU16},      {"u16", Type::kU16}, {"s16", Type::kS16}, {"b32", Type::kU32},
      {"u32", Type::kU32},      {"s32", Type::kS32}, {"b64", Type::kU64}, {"u64", Type::kU64},
      {"s64", Type::kS64},      {"f16", Type::kF16}, {"f32", Type::kF32}, {"f16x2", Type::kF16x2},
      {"bf16x2", Type::kBf16x2}};
  const auto found = types.find(name);
  return found == types.end() ? Type::kNone : found->second;
}

/// Reads one kernel, from what follows its name.
class Parser : public Names {
 public:
  Parser(std::string_view text, Kernel& kernel) : text_(text), kernel_(kernel) {}

  void read() {
    read_parameters();
    do read_next();
    while (!scopes_.empty());
    Instruction end;
    end.flow = Instruction::Flow::kReturn;
    kernel_.code.push_back(end);
  }

  Register operand(std::string_view name, bool wide) override {
    name = trimmed(name);
    if (name == "_") return {kNowhere, false};
    if (const auto found = registers_.find(name); found != registers_.end()) return found->second;
    if (local_.contains(name)) {
      kernel_.local_addresses.push_back(make(true));
      return kernel_.local_addresses.back();
    }
    if (name == kSharedMemory) return constant(0, wide);
    if (name.starts_with('%')) {
      const auto [at, is_new] = specials_.try_emplace({std::string(name), wide});
      if (is_new) kernel_.specials.push_back({at->second = make(wide), std::string(name)});
      return at->second;
    }
    const std::string digits(name.starts_with("0f") ? name.substr(2) : name);
    char* end = nullptr;
    const u64 value = digits.starts_with('-')
                          ? static_cast<u64>(std::strtoll(digits.c_str(), &end, 0))
                          : std::strtoull(digits.c_str(), &end, name.starts_with("0f") ? 16 : 0);
    if (digits.empty() || *end != '\0') throw Fault("not known here: operand " + std::string(name));
    return constant(wide ? value : static_cast<u32>(value), wide);
  }

  Register address(std::string_view text, Space space, i64& offset) override {
    if (!text.starts_with('[') || !text.ends_with(']'))
      throw Fault("not an address: " + std::string(text));
    text = text.substr(1, text.size() - 2);
    if (const std::size_t plus = text.find('+'); plus != text.npos) {
      offset += std::strtoll(std::string(text.substr(plus + 1)).c_str(), nullptr, 0);
      text = text.substr(0, plus);
    }
    if (const auto found = parameters_.find(text); found != parameters_.end()) {
      offset += found->second;
      return constant(0, true);
    }
    return operand(text, space != Space::kShared);
  }

 private:
  /// The one array that kernels share, of as many bytes as a launch says.
  static constexpr std::string_view kSharedMemory = "_ZN6kquant4cuda13kquant_sharedE";

  struct Scope {
    std::map<std::string, int, std::less<>> labels;
    std::vector<std::pair<std::size_t, std::string>> branches;  ///< whose label is still to come
  };

  Register make(bool wide) { return {wide ? kernel_.wide++ : kernel_.narrow++, wide}; }

  Register constant(u64 value, bool wide) {
    const auto [at, is_new] = constants_.try_emplace({value, wide});
    if (is_new) kernel_.constants.push_back({at->second = make(wide), value});
    return at->second;
  }

  std::string_view until(std::string_view end) {
    const std::size_t from = at_, found = text_.find(end, at_);
    if (found == text_.npos) throw Fault("a kernel's text ends within it");
    at_ = found + end.size();
    return text_.substr(from, found - from);
  }

  /// .param .align 8 .b8 NAME[104], .param .u64 NAME, …
  void read_parameters() {
    until("(");
    u32 end = 0;
    for (const std::string& one : split(until(")"), ',')) {
      u32 align = 1, bytes = 0, count = 1;
      std::string name;
      std::istringstream words(one);
      for (std::string word; words >> word;) {
        if (word == ".align")
          words >> align;
        else if (!word.starts_with('.'))
          name = word;
        else if (word != ".param")
          bytes = bytes_of(type_of(word.substr(1)));
      }
      if (name.empty()) continue;
      if (const std::size_t bracket = name.find('['); bracket != name.npos) {
        count = number(name.substr(bracket + 1));
        name.resize(bracket);
      }
      align = std::max(align, bytes);
      end = (end + align - 1) / align * align;
      parameters_[name] = end;
      kernel_.parameters.push_back({end, bytes * count});
      end += bytes * count;
    }
    kernel_.parameter_bytes = end;
    const std::string_view limits = until("{");
    if (const std::size_t found = limits.find(".maxntid"); found != limits.npos)
      kernel_.most_threads =
          number(trimmed(limits.substr(found + 8, limits.find(',', found) - found - 8)));
    --at_;
  }

  void read_next() {
    while (is_space(text_.at(at_))) ++at_;
    if (text_.substr(at_, 2) == "//") {
      until("\n");
    } else if (text_[at_] == '{') {
      scopes_.emplace_back();
      ++at_;
    } else if (text_[at_] == '}') {
      close_scope();
      ++at_;
    } else if (text_[at_] == '.') {
      declare(until(";"));
    } else {
      std::size_t end = at_;
      while (is_name(text_[end])) ++end;
      if (text_[end] == ':' && text_[end + 1] != ':') {
        scopes_.back().labels[std::string(text_.substr(at_, end - at_))] =
            static_cast<int>(kernel_.code.size());
        at_ = end + 1;
      } else {
        add_instruction(until(";"));
      }
    }
  }

  /// Labels are known in the braces that they are in; branches to others wait for the outer ones.
  void close_scope() {
    const Scope scope = std::move(scopes_.back());
    scopes_.pop_back();
    for (const auto& [from, label] : scope.branches) {
      if (const auto found = scope.labels.find(label); found != scope.labels.end())
        kernel_.code[from].target = found->second;
      else if (scopes_.empty())
        throw Fault("no label " + label);
      else
        scopes_.back().branches.emplace_back(from, label);
    }
  }

  void declare(std::string_view text) {
    std::istringstream words{std::string(text)};
    std::string directive, word;
    words >> directive;
    if (directive == ".pragma" || directive == ".loc" || directive == ".file") return;
    if (directive == ".reg") {
      words >> word;
      const bool wide = is_wide(type_of(word.substr(1)));
      std::getline(words, word);
      for (const std::string& one : split(word, ',')) {
        const std::size_t bracket = one.find('<');
        if (bracket == one.npos)
          registers_[one] = make(wide);
        else
          for (u32 i = 0, n = number(one.substr(bracket + 1)); i < n; ++i)
            registers_[one.substr(0, bracket) + std::to_string(i)] = make(wide);
      }
    } else if (directive == ".local") {
      while (words >> word)
        if (const std::size_t bracket = word.find('['); bracket != word.npos) {
          local_.insert(word.substr(0, bracket));
          kernel_.local_bytes = number(word.substr(bracket + 1));
        }
      if (local_.size() != 1) throw Fault("not known here: two arrays in local memory");
    } else {
      throw Fault("not known here: " + std::string(text));
    }
  }

  void add_instruction(std::string_view text) {
    Instruction i;
    line_ += std::count(text_.begin() + static_cast<std::ptrdiff_t>(counted_),
                        text_.begin() + static_cast<std::ptrdiff_t>(at_), '\n');
    counted_ = at_;
    i.line = static_cast<int>(line_);
    if (text.starts_with('@')) {
      const std::size_t end = text.find_first_of(" \t");
      std::string_view predicate = text.substr(1, end - 1);
      i.predicate_is_false = predicate.starts_with('!');
      if (i.predicate_is_false) predicate.remove_prefix(1);
      i.predicate = static_cast<int>(operand(predicate, false).index);
      text = trimmed(text.substr(end));
    }
    const Statement s = parse(text);
    if (s.opcode() == "bra") {
      i.flow = Instruction::Flow::kBranch;
      scopes_.back().branches.emplace_back(kernel_.code.size(), s.operands.at(0).at(0));
    } else if (s.opcode() == "ret" || s.opcode() == "exit") {
      i.flow = Instruction::Flow::kReturn;
    } else if (!decode(s, i)) {
      s.unknown();
    }
    kernel_.code.push_back(std::move(i));
  }

  bool decode(const Statement& s, Instruction& to) {
    try {
      return decode_arithmetic(s, *this, to) || decode_comparison(s, *this, to) ||
             decode_conversion(s, *this, to) || decode_memory(s, *this, to) ||
             decode_collective(s, *this, to);
    } catch (const std::out_of_range&) {
      return false;  // fewer operands than it should have
    }
  }

  static Statement parse(std::string_view text) {
    Statement s;
    s.text = text;
    const std::size_t end = std::min(text.size(), text.find_first_of(" \t\n"));
    s.parts = split(text.substr(0, end), '.');
    for (const std::string& part : s.parts)
      if (const Type type = type_of(part); type != Type::kNone) s.types.push_back(type);
    std::vector<std::string> group(1);
    bool braces = false;
    for (const char c : text.substr(end)) {
      if (c == '{' || c == '}') {
        braces = c == '{';
      } else if (c == ',' || c == '|') {
        if (!braces) s.operands.push_back(std::exchange(group, {}));
        group.emplace_back();
      } else if (!is_space(c)) {
        group.back() += c;
      }
    }
    if (!group.back().empty()) s.operands.push_back(group);
    return s;
  }

  std::string_view text_;
  Kernel& kernel_;
  std::size_t at_ = 0, counted_ = 0;
  std::ptrdiff_t line_ = 1;
  std::map<std::string, Register, std::less<>> registers_;
  std::map<std::string, u32, std::less<>> parameters_;
  std::set<std::string, std::less<>> local_;
  std::map<std::pair<u64, bool>, Register> constants_;
  std::map<std::pair<std::string, bool>, Register> specials_;
  std::vector<Scope> scopes_;
};

}  // namespace

bool Statement::has(std::string_view part) const {
  return std::find(parts.begin() + 1, parts.end(), part) != parts.end();
}

u32 bytes_of(Type t) {
  switch (t) {
    case Type::kU8:
    case Type::kS8:
      return 1;
    case Type::kU16:
    case Type::kS16:
    case Type::kF16:
      return 2;
    case Type::kU64:
    case Type::kS64:
      return 8;
    default:
      return 4;
  }
}

bool is_wide(Type type) {
  return type == Type::kU64 || type == Type::kS64;
}

Module::Module(std::string text) : text_(std::move(text)) {
  constexpr std::string_view kTarget = ".target ", kEntry = ".entry ";
  if (const std::size_t at = text_.find(kTarget); at != text_.npos)
    target_ = text_.substr(at + kTarget.size(),
                           text_.find_first_of(", \n", at + kTarget.size()) - at - kTarget.size());
  for (std::size_t at = text_.find(kEntry); at != text_.npos;) {
    const std::size_t name = at + kEntry.size();
    std::size_t end = name;
    while (is_name(text_[end])) ++end;
    at = text_.find(kEntry, end);
    places_[text_.substr(name, end - name)] = {end, std::min(at, text_.size()) - end};
  }
}

const Kernel& Module::kernel(const std::string& name) {
  if (const auto found = kernels_.find(name); found != kernels_.end()) return found->second;
  const auto place = places_.find(name);
  if (place == places_.end()) throw Fault("no kernel " + name);
  Kernel kernel;
  kernel.name = name;
  try {
    Parser(std::string_view(text_).substr(place->second.first, place->second.second), kernel)
        .read();
  } catch (const Fault& fault) {
    throw Fault(name + ": " + fault.what());
  }
  return kernels_.emplace(name, std::move(kernel)).first->second;
}

}  // namespace kquant::ptx
