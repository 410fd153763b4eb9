#include <catch2/catch.hpp>

#include <nlohmann/json.hpp>
#include <set>

#include "kquant/model/chat.hpp"
#include "shared_data.hpp"

using namespace kquant;
using namespace kquant::test;

namespace {

std::string format(ChatTemplate t, std::vector<ChatMessage> messages) {
  const auto prompt = format_chat(t, messages);
  REQUIRE(prompt.has_value());
  return *prompt;
}

}  // namespace

// chat_templates.json has the templates of real models as their own engine renders them
// (fixtures/make_chat_fixtures.py).
TEST_CASE("prompts are what the templates of real models make of them") {
  const auto fixture =
      nlohmann::json::parse(read_text(source_path("test/model/fixtures/chat_templates.json")));
  std::set<std::string> families;
  for (const auto& model : fixture["templates"]) {
    INFO(model["model"]);
    const auto found = find_chat_template(model["spells"].get<std::string>());
    if (!model["family"].is_null()) {
      CHECK(found);
      if (!found) continue;
      CHECK(name(*found) == model["family"]);
      families.insert(model["family"]);
    }
    if (!found) continue;  // refused: an error, and never a wrong prompt
    for (const auto& conversation : model["conversations"]) {
      INFO(conversation["title"]);
      if (conversation["rendered"].is_null()) continue;
      // Some templates that are not vouched for take an empty system message for none.
      if (model["family"].is_null() && conversation["title"] == "empty system") continue;
      std::vector<ChatMessage> messages;
      for (const auto& message : conversation["messages"])
        messages.push_back({message[0] == "system" ? ChatRole::kSystem
                            : message[0] == "user" ? ChatRole::kUser
                                                   : ChatRole::kAssistant,
                            message[1]});
      auto rendered = conversation["rendered"].get<std::string>();
      if (rendered.starts_with("<BOS>")) rendered.erase(0, 5);  // the tokenizer adds it
      if (const auto bos = rendered.find("<BOS>"); bos != rendered.npos)
        rendered.replace(bos, 5, "<s>");
      CHECK(format(*found, messages) == rendered);
    }
  }
  CHECK(families.size() == 12);
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
