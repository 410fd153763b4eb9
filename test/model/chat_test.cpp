#include <catch2/catch.hpp>

#include "kquant/model/chat.hpp"

using namespace kquant;

namespace {

std::string format(ChatTemplate t, std::vector<ChatMessage> messages) {
  const auto prompt = format_chat(t, messages);
  REQUIRE(prompt.has_value());
  return *prompt;
}

}  // namespace

TEST_CASE("chat families are recognised by the marks of their templates") {
  CHECK(find_chat_template("{% for m in messages %}<|im_start|>{{ m.role }}") ==
        ChatTemplate::kChatMl);
  CHECK(find_chat_template("..<|start_header_id|>..<|eot_id|>..") == ChatTemplate::kLlama3);
  CHECK(find_chat_template("..<start_of_turn>..") == ChatTemplate::kGemma);
  CHECK(find_chat_template("..<|user|>..<|end|>..") == ChatTemplate::kPhi3);
  CHECK(find_chat_template("[INST] <<SYS>>") == ChatTemplate::kLlama2);
  CHECK(find_chat_template("[INST] [/INST]") == ChatTemplate::kMistral);
  CHECK(find_chat_template("'<｜User｜>' + m + '<｜Assistant｜>'") == ChatTemplate::kDeepSeek);
  CHECK(!find_chat_template("'<｜User｜>' + m"));  // how the assistant's turn begins is unknown
}

TEST_CASE("templates that only look like a family's are not taken for it") {
  for (const char* const other :
       {"<|im_start|>user<|im_sep|>{{ content }}<|im_end|>",                   // phi-4
        "<|user|>{{ content }}<|end|><|assistant|>{{ '<|tool|>' }}",           // phi-4-mini
        "<|start|>assistant<|channel|>final<|end|><|user|>",                   // harmony
        "[SYSTEM_PROMPT]{{ system }}[/SYSTEM_PROMPT][INST]{{ user }}[/INST]",  // later Mistrals
        "<|user|>\n{{ content }}</s>\n<|assistant|>"}) {                       // zephyr
    INFO(other);
    CHECK_FALSE(find_chat_template(other));
  }
}

TEST_CASE("a template says which tokens it needs") {
  CHECK(special_tokens(ChatTemplate::kGemma).front() == "<start_of_turn>");
  CHECK(special_tokens(ChatTemplate::kLlama3).size() == 2);
  CHECK(special_tokens(ChatTemplate::kLlama2).empty());
}

TEST_CASE("an unknown or absent chat template is an error that says how to go on") {
  const auto none = find_chat_template("");
  REQUIRE_FALSE(none);
  CHECK(none.error().code == ErrorCode::kNotFound);
  CHECK_THAT(none.error().message, Catch::Contains("plain prompt"));
  const auto unknown = find_chat_template("### Instruction:");
  REQUIRE_FALSE(unknown);
  CHECK(unknown.error().code == ErrorCode::kUnsupported);
  CHECK_THAT(unknown.error().message, Catch::Contains("chatml"));
}

TEST_CASE("a conversation is written as its family writes it") {
  CHECK(format(ChatTemplate::kGemma, {{ChatRole::kSystem, "Be brief."}, {ChatRole::kUser, "Hi"}}) ==
        "<start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\n");
  CHECK(format(ChatTemplate::kChatMl, {{ChatRole::kSystem, "S"}, {ChatRole::kUser, "U"}}) ==
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n");
  CHECK(format(ChatTemplate::kLlama2, {{ChatRole::kSystem, "S"}, {ChatRole::kUser, "U"}}) ==
        "[INST] <<SYS>>\nS\n<</SYS>>\n\nU [/INST]");
  CHECK(format(ChatTemplate::kLlama3,
               {{ChatRole::kUser, "A"}, {ChatRole::kAssistant, "B"}, {ChatRole::kUser, "C"}}) ==
        "<|start_header_id|>user<|end_header_id|>\n\nA<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nB<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nC<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n");
}

TEST_CASE("a conversation must have messages, and its system message first") {
  CHECK_FALSE(format_chat(ChatTemplate::kChatMl, {}));
  const std::vector<ChatMessage> late = {{ChatRole::kUser, "U"}, {ChatRole::kSystem, "S"}};
  CHECK_FALSE(format_chat(ChatTemplate::kChatMl, late));
}
