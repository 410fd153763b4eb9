#include "kquant/model/chat.hpp"

#include <algorithm>
#include <array>

namespace kquant {

namespace {

struct Family {
  ChatTemplate id;
  std::string_view name;
  /// What this family's template spells, all of them: it is recognised by that. Tokens that the
  /// vocabulary must have, unless they are plain words.
  std::array<std::string_view, 2> marks;
  bool marks_are_words;
  /// Marks of templates that look like this family's and are another's.
  std::array<std::string_view, 2> foreign;
  // How one message of each role is written. Families whose template has no system role get the
  // system text in front of the first user message.
  std::string_view system_before, system_after;
  std::string_view user_before, user_after;
  std::string_view assistant_before, assistant_after;
  std::string_view generation;  ///< what asks for the answer
  bool has_system_role;
};

// In order of recognition: the more specific mark first. Foreign: phi-4 separates by <|im_sep|>;
// phi-4-mini (<|tool|>) and harmony (<|channel|>) have no new lines; later Mistrals have a token of
// their own for the system message.
constexpr std::array<Family, 7> kFamilies = {{
    {ChatTemplate::kLlama3,
     "llama-3",
     {"<|start_header_id|>", "<|eot_id|>"},
     false,
     {},
     "<|start_header_id|>system<|end_header_id|>\n\n",
     "<|eot_id|>",
     "<|start_header_id|>user<|end_header_id|>\n\n",
     "<|eot_id|>",
     "<|start_header_id|>assistant<|end_header_id|>\n\n",
     "<|eot_id|>",
     "<|start_header_id|>assistant<|end_header_id|>\n\n",
     true},
    {ChatTemplate::kChatMl,
     "chatml",
     {"<|im_start|>"},
     false,
     {"<|im_sep|>"},
     "<|im_start|>system\n",
     "<|im_end|>\n",
     "<|im_start|>user\n",
     "<|im_end|>\n",
     "<|im_start|>assistant\n",
     "<|im_end|>\n",
     "<|im_start|>assistant\n",
     true},
    {ChatTemplate::kGemma,
     "gemma",
     {"<start_of_turn>"},
     false,
     {},
     "",
     "\n\n",
     "<start_of_turn>user\n",
     "<end_of_turn>\n",
     "<start_of_turn>model\n",
     "<end_of_turn>\n",
     "<start_of_turn>model\n",
     false},
    {ChatTemplate::kPhi3,
     "phi-3",
     {"<|end|>", "<|user|>"},
     false,
     {"<|tool|>", "<|channel|>"},
     "<|system|>\n",
     "<|end|>\n",
     "<|user|>\n",
     "<|end|>\n",
     "<|assistant|>\n",
     "<|end|>\n",
     "<|assistant|>\n",
     true},
    {ChatTemplate::kDeepSeek,
     "deepseek",
     {"<｜User｜>", "<｜Assistant｜>"},
     false,
     {},
     "",
     "",
     "<｜User｜>",
     "",
     "<｜Assistant｜>",
     "<｜end▁of▁sentence｜>",
     "<｜Assistant｜>",
     true},
    {ChatTemplate::kLlama2,
     "llama-2",
     {"[INST]", "<<SYS>>"},
     true,
     {},
     "<<SYS>>\n",
     "\n<</SYS>>\n\n",
     "[INST] ",
     " [/INST]",
     " ",
     " </s><s>",
     "",
     false},
    {ChatTemplate::kMistral,
     "mistral",
     {"[INST]", "[/INST]"},
     true,
     {"[SYSTEM_PROMPT]"},
     "",
     "\n\n",
     "[INST] ",
     " [/INST]",
     " ",
     "</s>",
     "",
     false},
}};

/// The part of a list that is filled.
std::span<const std::string_view> filled(const std::array<std::string_view, 2>& marks) {
  std::size_t n = 0;
  while (n < marks.size() && !marks[n].empty()) ++n;
  return std::span(marks).first(n);
}

bool spells(const Family& f, std::string_view gguf_template) {
  const auto has = [&](std::string_view mark) {
    return gguf_template.find(mark) != std::string_view::npos;
  };
  return std::ranges::all_of(filled(f.marks), has) && std::ranges::none_of(filled(f.foreign), has);
}

const Family& family(ChatTemplate id) {
  for (const Family& f : kFamilies)
    if (f.id == id) return f;
  return kFamilies[0];
}

}  // namespace

std::string_view name(ChatTemplate chat_template) {
  return family(chat_template).name;
}

std::span<const std::string_view> special_tokens(ChatTemplate chat_template) {
  const Family& f = family(chat_template);
  return f.marks_are_words ? std::span<const std::string_view>() : filled(f.marks);
}

Result<ChatTemplate> find_chat_template(std::string_view gguf_template) {
  if (gguf_template.empty())
    return fail(ErrorCode::kNotFound,
                "the model has no chat template (tokenizer.chat_template): it may be a base model; "
                "use a plain prompt");
  for (const Family& f : kFamilies)
    if (spells(f, gguf_template)) return f.id;
  std::string known;
  for (const Family& f : kFamilies) known.append(known.empty() ? "" : ", ").append(f.name);
  return fail(ErrorCode::kUnsupported,
              "the model's chat template is none of " + known +
                  ": write the whole prompt yourself, without the chat option");
}

Result<std::string> format_chat(ChatTemplate chat_template, std::span<const ChatMessage> messages) {
  if (messages.empty())
    return fail(ErrorCode::kInvalidArgument, "a conversation needs at least one message");
  const Family& f = family(chat_template);
  std::string prompt, pending_system;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const ChatMessage& message = messages[i];
    switch (message.role) {
      case ChatRole::kSystem: {
        if (i != 0) return fail(ErrorCode::kInvalidArgument, "a system message must be the first");
        std::string text =
            std::string(f.system_before) + message.content + std::string(f.system_after);
        (f.has_system_role ? prompt : pending_system) = std::move(text);
        break;
      }
      case ChatRole::kUser:
        prompt.append(f.user_before)
            .append(pending_system)
            .append(message.content)
            .append(f.user_after);
        pending_system.clear();
        break;
      case ChatRole::kAssistant:
        prompt.append(f.assistant_before).append(message.content).append(f.assistant_after);
        break;
    }
  }
  return prompt.append(f.generation);
}

}  // namespace kquant
