#include "kquant/model/chat.hpp"

#include <algorithm>
#include <array>
#include <optional>

namespace kquant {

namespace {

/// Where the text of a system message goes.
enum class System { kOwnMessage, kFirstUser, kLastUser, kNowhere };
/// What a template strips of white space: nothing, each message, or a user's message only after the
/// system text was put in front of it.
enum class Strip { kNothing, kMessages, kWithSystem };

struct Family {
  ChatTemplate id;
  std::string_view name;
  /// What this family's templates spell, all of them: a template is recognised by that.
  std::array<std::string_view, 3> marks;
  /// What templates spell that look like this family's and write something else.
  std::array<std::string_view, 6> foreign;
  std::array<std::string_view, 2> tokens;  ///< that the vocabulary must have
  System system;
  Strip strip;
  // How a message of each role is written.
  std::string_view system_before, system_after;
  std::string_view user_before, user_after;
  std::string_view assistant_before, assistant_after;
  std::string_view generation;  ///< what asks for the answer
  /// The system message of a conversation that has none; nullopt: then there is none.
  std::optional<std::string_view> default_system = {};
  bool omits_empty_system = false;
};

constexpr std::string_view kHeader = "<|start_header_id|>assistant<|end_header_id|>\n\n";

constexpr Family kLlama3{
    .id = ChatTemplate::kLlama3,
    .name = "llama-3",
    .marks = {"<|start_header_id|>", "<|eot_id|>", "trim"},
    .foreign = {"Cutting Knowledge", "function", "tools", "<think>", "You are"},
    .tokens = {"<|start_header_id|>", "<|eot_id|>"},
    .system = System::kOwnMessage,
    .strip = Strip::kMessages,
    .system_before = "<|start_header_id|>system<|end_header_id|>\n\n",
    .system_after = "<|eot_id|>",
    .user_before = "<|start_header_id|>user<|end_header_id|>\n\n",
    .user_after = "<|eot_id|>",
    .assistant_before = kHeader,
    .assistant_after = "<|eot_id|>",
    .generation = kHeader,
};

/// 3.1 to 3.3 always write two dates. The second is the one that their templates fall back to, so
/// that a study asks the same tomorrow.
constexpr Family kLlama31 = [] {
  Family f = kLlama3;
  f.id = ChatTemplate::kLlama31;
  f.name = "llama-3.1";
  f.marks = {"<|start_header_id|>", "Cutting Knowledge Date: December 2023", "\"Today Date: \""};
  f.foreign = {"<think>", "thinking"};
  f.system_before =
      "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
      "Today Date: 26 Jul 2024\n\n";
  f.default_system = "";
  return f;
}();

constexpr Family kChatMl{
    .id = ChatTemplate::kChatMl,
    .name = "chatml",
    .marks = {"<|im_start|>"},
    .foreign = {"<|im_sep|>", "system\\nYou are ", "assistant\\n<think>", "trim", "## Metadata",
                "'system' + '\\n'"},
    .tokens = {"<|im_start|>"},
    .system = System::kOwnMessage,
    .strip = Strip::kNothing,
    .system_before = "<|im_start|>system\n",
    .system_after = "<|im_end|>\n",
    .user_before = "<|im_start|>user\n",
    .user_after = "<|im_end|>\n",
    .assistant_before = "<|im_start|>assistant\n",
    .assistant_after = "<|im_end|>\n",
    .generation = "<|im_start|>assistant\n",
};

constexpr Family kQwen25 = [] {
  Family f = kChatMl;
  f.id = ChatTemplate::kQwen25;
  f.name = "qwen2.5";
  f.marks = {"<|im_start|>",
             "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."};
  f.foreign = {"<|im_sep|>", "assistant\\n<think>", "trim"};
  f.default_system = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.";
  return f;
}();

constexpr Family kGemma{
    .id = ChatTemplate::kGemma,
    .name = "gemma",
    .marks = {"<start_of_turn>", "<end_of_turn>", "trim"},
    .foreign = {"You are", "tools", "<think>"},
    .tokens = {"<start_of_turn>", "<end_of_turn>"},
    .system = System::kFirstUser,
    .strip = Strip::kMessages,
    .system_before = "",
    .system_after = "\n\n",
    .user_before = "<start_of_turn>user\n",
    .user_after = "<end_of_turn>\n",
    .assistant_before = "<start_of_turn>model\n",
    .assistant_after = "<end_of_turn>\n",
    .generation = "<start_of_turn>model\n",
};

constexpr Family kPhi3{
    .id = ChatTemplate::kPhi3,
    .name = "phi-3",
    .marks = {"<|end|>", "<|assistant|>"},
    .foreign = {"<|tool|>", "<|channel|>", "'<|'", "You are", "<think>", "</s>"},
    .tokens = {"<|end|>", "<|assistant|>"},
    .system = System::kOwnMessage,
    .strip = Strip::kNothing,
    .system_before = "<|system|>\n",
    .system_after = "<|end|>\n",
    .user_before = "<|user|>\n",
    .user_after = "<|end|>\n",
    .assistant_before = "<|assistant|>\n",
    .assistant_after = "<|end|>\n",
    .generation = "<|assistant|>\n",
    .omits_empty_system = true,
};

/// The first templates of Phi-3 mini and medium leave system messages out.
constexpr Family kPhi3NoSystem = [] {
  Family f = kPhi3;
  f.id = ChatTemplate::kPhi3NoSystem;
  f.name = "phi-3 without system messages";
  f.foreign = {"system", "'<|'", "<|tool|>", "<|channel|>", "You are", "<think>"};
  f.system = System::kNowhere;
  return f;
}();

constexpr Family kDeepSeek{
    .id = ChatTemplate::kDeepSeek,
    .name = "deepseek",
    .marks = {"<｜User｜>", "<｜Assistant｜>"},
    .foreign = {"<think>", "｜></think>", "'</think>'}}", "You are"},
    .tokens = {"<｜User｜>", "<｜Assistant｜>"},
    .system = System::kOwnMessage,
    .strip = Strip::kNothing,
    .system_before = "",
    .system_after = "",
    .user_before = "<｜User｜>",
    .user_after = "",
    .assistant_before = "<｜Assistant｜>",
    .assistant_after = "<｜end▁of▁sentence｜>",
    .generation = "<｜Assistant｜>",
};

constexpr Family kLlama2{
    .id = ChatTemplate::kLlama2,
    .name = "llama-2",
    .marks = {"'[INST] '", "<<SYS>>", "strip"},
    .foreign = {"You are", "Vous", "DEFAULT_SYSTEM", "default_system"},
    .tokens = {},  // its marks are words
    .system = System::kFirstUser,
    .strip = Strip::kWithSystem,
    .system_before = "<<SYS>>\n",
    .system_after = "\n<</SYS>>\n\n",
    .user_before = "[INST] ",
    .user_after = " [/INST]",
    .assistant_before = " ",
    .assistant_after = " </s><s>",
    .generation = "",
};

/// Before tools: Mistral 7B up to v0.2, Mixtral.
constexpr Family kMistral{
    .id = ChatTemplate::kMistral,
    .name = "mistral",
    .marks = {"'[INST] '", "' [/INST]'"},
    .foreign = {"[SYSTEM_PROMPT]", "[AVAILABLE_TOOLS]", "<<SYS>>", "trim", "' [INST]", "strip"},
    .tokens = {},
    .system = System::kFirstUser,
    .strip = Strip::kNothing,
    .system_before = "",
    .system_after = "\n\n",
    .user_before = "[INST] ",
    .user_after = " [/INST]",
    .assistant_before = "",
    .assistant_after = "</s>",
    .generation = "",
};

constexpr Family kMistralV3 = [] {
  Family f = kMistral;
  f.id = ChatTemplate::kMistralV3;
  f.name = "mistral v3";
  f.marks = {"\"[INST] \"", "\"[/INST]\""};
  f.foreign = {"[SYSTEM_PROMPT]", "<<SYS>>", "You are"};
  f.system = System::kLastUser;
  f.user_after = "[/INST]";
  f.assistant_before = " ";
  return f;
}();

constexpr Family kMistralTekken = [] {
  Family f = kMistralV3;
  f.id = ChatTemplate::kMistralTekken;
  f.name = "mistral v3-tekken";
  f.marks = {"\"[INST]\"", "\"[/INST]\""};
  f.user_before = "[INST]";
  f.assistant_before = "";
  return f;
}();

constexpr std::array kFamilies = {kLlama31, kLlama3,       kQwen25,    kChatMl,
                                  kGemma,   kPhi3NoSystem, kPhi3,      kDeepSeek,
                                  kLlama2,  kMistral,      kMistralV3, kMistralTekken};

/// The part of a list that is filled.
template <std::size_t N>
std::span<const std::string_view> filled(const std::array<std::string_view, N>& list) {
  std::size_t n = 0;
  while (n < N && !list[n].empty()) ++n;
  return std::span(list).first(n);
}

bool spells(const Family& f, std::string_view gguf_template) {
  const auto has = [&](std::string_view mark) {
    return gguf_template.find(mark) != std::string_view::npos;
  };
  return std::ranges::all_of(filled(f.marks), has) && std::ranges::none_of(filled(f.foreign), has);
}

/// As the template language's trim.
std::string_view stripped(std::string_view text) {
  constexpr std::string_view kSpace = " \t\n\r\f\v";
  const std::size_t begin = text.find_first_not_of(kSpace);
  if (begin == text.npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) + 1 - begin);
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
  return filled(family(chat_template).tokens);
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
  const auto content = [&](const ChatMessage& message) {
    return f.strip == Strip::kMessages ? stripped(message.content)
                                       : std::string_view(message.content);
  };
  bool has_system = f.default_system.has_value();
  std::string system(f.default_system.value_or(""));
  if (messages.front().role == ChatRole::kSystem) {
    const ChatMessage& message = messages.front();
    system = f.system == System::kOwnMessage ? content(message) : message.content;
    has_system = !(system.empty() && f.omits_empty_system);
    messages = messages.subspan(1);
  }
  std::size_t first_user = messages.size(), last_user = messages.size();
  for (std::size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].role == ChatRole::kSystem)
      return fail(ErrorCode::kInvalidArgument, "a system message must be the first");
    if (messages[i].role != ChatRole::kUser) continue;
    last_user = i;
    if (first_user == messages.size()) first_user = i;
  }
  if (has_system) system.insert(0, f.system_before).append(f.system_after);
  std::string prompt = f.system == System::kOwnMessage ? system : "";
  for (std::size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].role == ChatRole::kAssistant) {
      prompt.append(f.assistant_before).append(content(messages[i])).append(f.assistant_after);
      continue;
    }
    std::string text(content(messages[i]));
    if ((f.system == System::kFirstUser && i == first_user) ||
        (f.system == System::kLastUser && i == last_user))
      text.insert(0, system);
    prompt.append(f.user_before)
        .append(f.strip == Strip::kWithSystem ? stripped(text) : text)
        .append(f.user_after);
  }
  return prompt.append(f.generation);
}

}  // namespace kquant
