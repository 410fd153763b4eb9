// The expressions are those of the models' own tokenizer.json files, with (?i:...) spelled out for
// ASCII. \s is Unicode's White_Space; \p{..} are general categories.
//
// Each must take linear time and no stack on a long run of one character. So: repeats of single
// characters or classes only (a repeated group costs memory for each turn), and nothing that
// scans a run to its end from each of its characters.

#include "model/tokenizer/pre_types.hpp"

#include <algorithm>
#include <array>

// Patterns are put together from literals, which only macros can join at compile time.
#define KQ_CONTRACTION R"((?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]))"
#define KQ_SPACES R"(\s*[\r\n]+|\s+(?!\S)|\s+)"
#define KQ_UPPER R"([\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])"
#define KQ_LOWER R"([\p{Ll}\p{Lm}\p{Lo}\p{M}])"

namespace kquant::tokenizer {

namespace {

using Pattern = std::string_view;

constexpr Pattern kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr Pattern kDigit = R"(\p{N})";
constexpr Pattern kThreeAsciiDigits = "[0-9][0-9][0-9]";

/// cl100k's: the letters may take one other character with them; digits in threes or alone.
#define KQ_CL100K(DIGITS) \
  KQ_CONTRACTION R"(|[^\r\n\p{L}\p{N}]?\p{L}+|)" DIGITS R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|)" KQ_SPACES
constexpr Pattern kLlama3 = KQ_CL100K(R"(\p{N}{1,3})");
constexpr Pattern kQwen2 = KQ_CL100K(R"(\p{N})");
constexpr Pattern kMiniCpm5 = KQ_CL100K(R"(\p{N}+)");

/// o200k's: words also end where lower case is followed by upper case.
#define KQ_O200K(CONTRACTION, DIGITS)                                                             \
  R"([^\r\n\p{L}\p{N}]?)" KQ_UPPER "*" KQ_LOWER "+" CONTRACTION R"(|[^\r\n\p{L}\p{N}]?)" KQ_UPPER \
  "+" KQ_LOWER "*" CONTRACTION "|" DIGITS R"(| ?[^\s\p{L}\p{N}]+[\r\n/]*|)" KQ_SPACES

constexpr Pattern kDefault[] = {R"([\p{P}$+<=>^~|]+)", kGpt2, R"(\p{N}+)", kThreeAsciiDigits};
constexpr Pattern kGpt2Only[] = {kGpt2};
constexpr Pattern kDigitsApart[] = {kDigit, kGpt2};
constexpr Pattern kFalcon[] = {R"([\p{P}$+<=>^~|`]+)", kGpt2, kThreeAsciiDigits};
constexpr Pattern kLlama3Only[] = {kLlama3};
constexpr Pattern kQwen2Only[] = {kQwen2};
constexpr Pattern kMiniCpm5All[] = {R"(\p{N}{1,3})", kMiniCpm5};
constexpr Pattern kQwen35[] = {
    KQ_CONTRACTION
    R"(|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|)" KQ_SPACES};
constexpr Pattern kTekken[] = {KQ_O200K("", R"(\p{N})")};
constexpr Pattern kGpt4o[] = {KQ_O200K(KQ_CONTRACTION "?", R"(\p{N}{1,3})")};
constexpr Pattern kSeedCoder[] = {
    KQ_CONTRACTION R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|)" KQ_SPACES};
constexpr Pattern kBailing[] = {
    R"('(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)"};

constexpr Pattern kNewline = R"([\r\n])";
/// 一-龥 (with the characters before it from U+0800 on) and Hangul from 가 on.
constexpr Pattern kDeepSeekCjk = R"([\x{4E00}-\x{9FA5}\x{800}-\x{4E00}\x{AC00}-\x{D7FF}]+)";
constexpr Pattern kDeepSeekCoder[] = {kNewline, R"(\s?\p{L}+)", R"(\s?\p{P}+)", kDeepSeekCjk,
                                      kDigit};
/// Letters of the scripts that have upper and lower case.
constexpr Pattern kDeepSeekLetters =
    R"(\s?[A-Za-z\x{B5}\x{C0}-\x{D6}\x{D8}-\x{F6}\x{F8}-\x{1BA}\x{1BC}-\x{1BF}\x{1C4}-\x{293})"
    R"(\x{295}-\x{2AF}\x{370}-\x{373}\x{376}\x{377}\x{37B}-\x{37D}\x{37F}\x{386})"
    R"(\x{388}-\x{38A}\x{38C}\x{38E}-\x{3A1}\x{3A3}-\x{3F5}\x{3F7}-\x{481}\x{48A}-\x{52F})"
    R"(\x{531}-\x{556}\x{10A0}-\x{10C5}\x{13A0}-\x{13F5}\x{13F8}-\x{13FD})"
    R"(\x{1C90}-\x{1CBA}\x{1CBD}-\x{1CBF}\x{1D00}-\x{1D2B}\x{1D6B}-\x{1D77})"
    R"(\x{1D79}-\x{1D9A}\x{1E00}-\x{1F15}\x{1F18}-\x{1F1D}\x{1F20}-\x{1F45})"
    R"(\x{1F48}-\x{1F4D}\x{1F50}-\x{1F57}\x{1F59}\x{1F5B}\x{1F5D}\x{1F5F}-\x{1F7D})"
    R"(\x{1F80}-\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE}\x{1FC2}-\x{1FC4}\x{1FC6}-\x{1FCC})"
    R"(\x{1FD0}-\x{1FD3}\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC}\x{1FF2}-\x{1FF4})"
    R"(\x{1FF6}-\x{1FFC}\x{2102}\x{2107}\x{210A}-\x{2113}\x{2115}\x{2119}-\x{211D})"
    R"(\x{2124}\x{2126}\x{2128}\x{212A}-\x{212D}\x{212F}-\x{2134}\x{2139})"
    R"(\x{213C}-\x{213F}\x{2145}-\x{2149}\x{214E}\x{2183}\x{2184}\x{2C00}-\x{2C7B})"
    R"(\x{2C7E}-\x{2CE4}\x{2CEB}-\x{2CEE}\x{2CF2}\x{2CF3}\x{A640}-\x{A66D})"
    R"(\x{A680}-\x{A69B}\x{A722}-\x{A76F}\x{A771}-\x{A787}\x{A78B}-\x{A78E})"
    R"(\x{AB70}-\x{ABBF}\x{FB00}-\x{FB06}\x{FB13}-\x{FB17}\x{FF21}-\x{FF3A})"
    R"(\x{FF41}-\x{FF5A}\x{10400}-\x{1044F}\x{104B0}-\x{104D3}\x{104D8}-\x{104FB})"
    R"(\x{10C80}-\x{10CB2}\x{10CC0}-\x{10CF2}\x{118A0}-\x{118DF}\x{1E900}-\x{1E943}]+)";
constexpr Pattern kDeepSeekLlm[] = {
    kNewline,
    kDeepSeekLetters,
    R"(\s?[!-/:-~\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF5E}\x{2018}-\x{201F}\x{3000}-\x{3002}]+)",
    R"((?<!\s)\s++\z)",  // "\s+$", which would scan each run of spaces from all its places
    kDeepSeekCjk,
    R"(\p{N}+)"};
constexpr Pattern kDeepSeek3[] = {
    R"(\p{N}{1,3})", R"([\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+)",
    R"re([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|)re"
    R"( ?[\p{P}\p{S}]+[\r\n]*|)" KQ_SPACES};

constexpr Pattern kBloom = R"re( ?[^(\s|.,!?…。，、।۔،)]+)re";
constexpr Pattern kBloomOnly[] = {kBloom};
constexpr Pattern kViking[] = {kBloom, kDigit};

constexpr std::array kTypes = {
    PreType{"default", kDefault},
    PreType{"gpt-2 phi-2 mpt olmo jais trillion granite-docling exaone4 gigachat mellum a.x-4.0 "
            "jina-es jina-de jina-v2-es jina-v2-de jina-v1-en jina-v2-code roberta-bpe modern-bert",
            kGpt2Only},
    PreType{"starcoder refact command-r smollm codeshell exaone minerva-7b mellum2", kDigitsApart},
    PreType{"falcon", kFalcon},
    PreType{"llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2", kLlama3Only, true,
            true},
    PreType{"glm4", kLlama3Only, true},
    PreType{"dbrx smaug-bpe chatglm-bpe", kLlama3Only},
    PreType{"minicpm5", kMiniCpm5All, true},
    PreType{"qwen2 deepseek-r1-qwen stablelm2 hunyuan megrez grok-2 solar-open kormo", kQwen2Only},
    PreType{"qwen35", kQwen35},
    PreType{"tekken", kTekken, true, true},
    PreType{"gpt-4o llama4 kanana2 minimax-m2", kGpt4o},
    PreType{"deepseek-llm", kDeepSeekLlm},
    PreType{"deepseek-coder", kDeepSeekCoder},
    PreType{"deepseek-v3 hunyuan-dense", kDeepSeek3},
    PreType{"seed-coder", kSeedCoder},
    PreType{"bailingmoe bailingmoe2 llada-moe", kBailing},
    PreType{"bloom gpt3-finnish poro-chat", kBloomOnly},
    PreType{"viking", kViking},
};

bool has_word(std::string_view words, std::string_view wanted) {
  while (!words.empty()) {
    const std::size_t end = std::min(words.find(' '), words.size());
    if (words.substr(0, end) == wanted) return true;
    words.remove_prefix(std::min(end + 1, words.size()));
  }
  return false;
}

}  // namespace

std::span<const PreType> pre_types() {
  return kTypes;
}

const PreType* find_pre_type(std::string_view name) {
  const auto found = std::find_if(kTypes.begin(), kTypes.end(),
                                  [&](const PreType& type) { return has_word(type.names, name); });
  return found == kTypes.end() ? nullptr : &*found;
}

}  // namespace kquant::tokenizer
