#pragma once
// Conversations as prompts. The template inside a GGUF file is a program in a template language;
// the common families are recognised by it and formatted by built-in code, anything else is an
// error.

#include <span>
#include <string>
#include <string_view>

#include "kquant/base/error.hpp"

namespace kquant {

/// What differs within a family has a value of its own: a prompt is byte for byte what the model's
/// template makes of it.
enum class ChatTemplate {
  kLlama2,
  kLlama3,
  kLlama31,  ///< up to 3.3
  kChatMl,   ///< Qwen3 and others without a system message of their own
  kQwen25,
  kGemma,
  kPhi3,
  kPhi3NoSystem,  ///< the first Phi-3 mini and medium: system messages are left out
  kMistral,       ///< 7B up to v0.2, Mixtral
  kMistralV3,
  kMistralTekken,  ///< Nemo
  kDeepSeek        ///< V3
};
enum class ChatRole { kSystem, kUser, kAssistant };

struct ChatMessage {
  ChatRole role;
  std::string content;
};

std::string_view name(ChatTemplate chat_template);

/// The family of a GGUF's tokenizer.chat_template (Tokenizer::chat_template()).
/// Errors: kNotFound (the model has none), kUnsupported (not recognised); both say how to go on.
Result<ChatTemplate> find_chat_template(std::string_view gguf_template);

/// Tokens that a vocabulary must have for this template to mean anything.
std::span<const std::string_view> special_tokens(ChatTemplate chat_template);

/// The prompt that asks for the assistant's next message, special tokens spelled out: encode it
/// with parse_special. BOS is left to the tokenizer. Errors: kInvalidArgument (no messages, or a
/// system message that is not the first).
Result<std::string> format_chat(ChatTemplate chat_template, std::span<const ChatMessage> messages);

}  // namespace kquant
