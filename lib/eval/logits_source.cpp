#include "kquant/eval/logits_source.hpp"

namespace kquant {
namespace {

class TransformerLogits : public LogitsSource {
 public:
  TransformerLogits(Transformer& model, std::size_t context) : model_(model), context_(context) {}

  std::size_t vocab_size() const override {
    return static_cast<std::size_t>(model_.config().vocab_size);
  }
  std::size_t context() const override { return context_; }

  Result<void> make_slots(std::size_t count, std::size_t capacity) override {
    caches_.clear();
    for (std::size_t i = 0; i < count; ++i)
      caches_.emplace_back(model_.config(), static_cast<int>(capacity));
    return {};
  }
  Result<void> run(std::span<const Step> steps, Span2d<float> logits) override {
    std::vector<Sequence> batch;
    for (const Step& step : steps)
      batch.push_back({step.tokens, &caches_[step.slot], step.outputs});
    return model_.forward_batch(batch, logits);
  }
  void truncate(std::size_t slot, std::size_t size) override {
    caches_[slot].truncate(static_cast<int>(size));
  }
  Result<void> copy_prefix(std::size_t to, std::size_t from, std::size_t size) override {
    return caches_[to].copy_prefix(caches_[from], static_cast<int>(size));
  }

 private:
  Transformer& model_;
  std::size_t context_;
  std::vector<KvCache> caches_;
};

}  // namespace

std::unique_ptr<LogitsSource> make_logits_source(Transformer& model, std::size_t context) {
  if (context == 0) context = static_cast<std::size_t>(model.config().context_length);
  return std::make_unique<TransformerLogits>(model, context);
}

}  // namespace kquant
