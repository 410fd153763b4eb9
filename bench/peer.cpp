#include "peer.hpp"

#include <dlfcn.h>
#include <fmt/format.h>

#include <cstdint>
#include <filesystem>
#include <utility>
#include <vector>

namespace kquant::bench {
namespace {

// What ggml calls these is of no interest here: they are only handed from one function to the next.
struct Context;
struct Tensor;
struct Graph;
struct Backend;
struct Device;
struct Registry;
struct Buffer;
struct BufferType;

/// Passed to ggml_init by value.
struct InitParameters {
  std::size_t bytes;
  void* memory;   ///< null: ggml allocates
  bool no_alloc;  ///< tensors get no data
};

constexpr int kF32 = 0;        // ids of types are GGUF's
constexpr int kCpuDevice = 0;  // of ggml's kinds of device

/// A function by its name in a library; null where it is not there.
template <class Function>
Function* find_function(void* library, const char* name) {
  return reinterpret_cast<Function*>(dlsym(library, name));
}

/// Where the code of a function was loaded from.
std::filesystem::path file_of(const void* function) {
  Dl_info info{};
  if (dladdr(function, &info) == 0 || info.dli_fname == nullptr) return {};
  std::error_code ignored;
  return std::filesystem::canonical(info.dli_fname, ignored);
}

}  // namespace

/// The functions used, by the names that ggml exports, and the processor as its backend.
struct GgmlFunctions {
  Context* (*init)(InitParameters);
  void (*free)(Context*);
  std::size_t (*tensor_overhead)();
  std::size_t (*graph_overhead)();
  Tensor* (*new_tensor_2d)(Context*, int type, std::int64_t cols, std::int64_t rows);
  Tensor* (*mul_mat)(Context*, Tensor* w, Tensor* x);
  Graph* (*new_graph)(Context*);
  void (*build_forward_expand)(Graph*, Tensor*);
  std::int64_t (*blck_size)(int type);

  BufferType* (*default_buffer_type)(Backend*);
  Buffer* (*alloc_buffer)(BufferType*, std::size_t bytes);
  void (*free_buffer)(Buffer*);
  void* (*buffer_base)(Buffer*);
  std::size_t (*alloc_size)(BufferType*, Tensor*);
  void (*tensor_alloc)(Buffer*, Tensor*, void* at);
  void (*tensor_set)(Tensor*, const void*, std::size_t offset, std::size_t bytes);
  void (*tensor_get)(const Tensor*, void*, std::size_t offset, std::size_t bytes);
  int (*graph_compute)(Backend*, Graph*);
  void (*set_n_threads)(Backend*, int);

  Backend* cpu = nullptr;
  // ggml: another kind of buffer repacks what is written to it.
  Device* device = nullptr;
  BufferType* repack_type = nullptr;
  bool (*supports_op)(Device*, const Tensor*) = nullptr;
  // ik_llama.cpp: a tensor is repacked where it lies, and has another type after.
  void (*repack_tensor)(Tensor*) = nullptr;
  int (*repacked_type)(const Tensor*) = nullptr;
};

namespace {

/// Owns what ggml allocated.
class Memory {
 public:
  Memory(std::shared_ptr<const GgmlFunctions> ggml, std::size_t tensors, std::size_t graphs)
      : ggml_(std::move(ggml)),
        context_(ggml_->init({tensors * ggml_->tensor_overhead() +
                                  graphs * ggml_->graph_overhead() + (std::size_t{1} << 16),
                              nullptr, true})) {}
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() {
    for (Buffer* buffer : buffers_) ggml_->free_buffer(buffer);
    ggml_->free(context_);
  }
  Context* context() const { return context_; }
  /// Null where there is no memory.
  std::byte* allocate(BufferType* type, std::size_t bytes) {
    buffer_ = ggml_->alloc_buffer(type, bytes);
    if (buffer_ == nullptr) return nullptr;
    buffers_.push_back(buffer_);
    return static_cast<std::byte*>(ggml_->buffer_base(buffer_));
  }
  /// In the buffer of the last allocate().
  void place(Tensor* tensor, std::byte* at) { ggml_->tensor_alloc(buffer_, tensor, at); }

 private:
  std::shared_ptr<const GgmlFunctions> ggml_;
  Context* context_;
  std::vector<Buffer*> buffers_;
  Buffer* buffer_ = nullptr;
};

constexpr std::size_t kAlign = 64;  // of tensors in a buffer; ggml asks for 32
std::size_t aligned(std::size_t n) {
  return (n + kAlign - 1) / kAlign * kAlign;
}

class GgmlMatrix : public PeerMatrix {
 public:
  GgmlMatrix(std::shared_ptr<const GgmlFunctions> functions, std::size_t n)
      : ggml(functions), memory(functions, n, 0) {}
  std::size_t bytes() const override { return matrix_bytes; }
  std::size_t copies() const override { return tensors.size(); }

  std::shared_ptr<const GgmlFunctions> ggml;
  Memory memory;
  std::vector<Tensor*> tensors;
  std::size_t matrix_bytes = 0, rows = 0;
};

class GgmlProduct : public PeerProduct {
 public:
  GgmlProduct(std::shared_ptr<GgmlMatrix> w, std::size_t m, int n_threads)
      : w_(std::move(w)),
        memory_(w_->ggml, 1 + w_->copies(), w_->copies()),
        y_(m * w_->rows),
        n_threads_(n_threads) {}

  bool prepare(Span2d<const float> x) {
    const GgmlFunctions& ggml = *w_->ggml;
    const std::size_t x_bytes = aligned(x.rows * x.cols * sizeof(float));
    std::byte* const at = memory_.allocate(ggml.default_buffer_type(ggml.cpu),
                                           x_bytes + aligned(y_.size() * sizeof(float)));
    if (at == nullptr) return false;
    Tensor* const columns =
        ggml.new_tensor_2d(memory_.context(), kF32, static_cast<std::int64_t>(x.cols),
                           static_cast<std::int64_t>(x.rows));
    memory_.place(columns, at);
    for (std::size_t r = 0; r < x.rows; ++r)
      ggml.tensor_set(columns, x.row(r).data(), r * x.cols * sizeof(float), x.cols * sizeof(float));
    for (Tensor* w : w_->tensors) {
      results_.push_back(ggml.mul_mat(memory_.context(), w, columns));
      memory_.place(results_.back(), at + x_bytes);
      graphs_.push_back(ggml.new_graph(memory_.context()));
      ggml.build_forward_expand(graphs_.back(), results_.back());
    }
    return true;
  }
  void compute(std::size_t turn) override {
    const GgmlFunctions& ggml = *w_->ggml;
    ggml.set_n_threads(ggml.cpu, n_threads_);
    ggml.graph_compute(ggml.cpu, graphs_[turn % graphs_.size()]);
  }
  std::span<const float> result() override {
    w_->ggml->tensor_get(results_[0], y_.data(), 0, y_.size() * sizeof(float));
    return y_;
  }

 private:
  std::shared_ptr<GgmlMatrix> w_;
  Memory memory_;
  std::vector<Tensor*> results_;  ///< all in one place
  std::vector<Graph*> graphs_;
  std::vector<float> y_;
  int n_threads_;
};

/// Newer ggml: backends are devices of registries, and may have further kinds of buffers.
void find_repack_buffers(void* library, GgmlFunctions& ggml) {
  const auto device = find_function<Device*(int)>(library, "ggml_backend_dev_by_type");
  const auto registry = find_function<Registry*(Device*)>(library, "ggml_backend_dev_backend_reg");
  const auto address =
      find_function<void*(Registry*, const char*)>(library, "ggml_backend_reg_get_proc_address");
  const auto name = find_function<const char*(BufferType*)>(library, "ggml_backend_buft_name");
  ggml.supports_op =
      find_function<bool(Device*, const Tensor*)>(library, "ggml_backend_dev_supports_op");
  if (!device || !registry || !address || !name || !ggml.supports_op) return;
  ggml.device = device(kCpuDevice);
  if (ggml.device == nullptr) return;
  Registry* const cpu = registry(ggml.device);
  const auto extra =
      reinterpret_cast<BufferType** (*)(Device*)>(address(cpu, "ggml_backend_dev_get_extra_bufts"));
  if (extra == nullptr) return;
  for (BufferType** type = extra(ggml.device); type != nullptr && *type != nullptr; ++type)
    if (std::string(name(*type)) == "CPU_REPACK") ggml.repack_type = *type;
}

/// The processor, and how its number of threads is set.
void find_processor(void* library, GgmlFunctions& ggml) {
  ggml.set_n_threads =
      find_function<void(Backend*, int)>(library, "ggml_backend_cpu_set_n_threads");
  if (const auto init = find_function<Backend*()>(library, "ggml_backend_cpu_init")) {
    ggml.cpu = init();
    return;
  }
  // Distributions' packages load the code for this processor as a plugin.
  if (const auto load_all = find_function<void()>(library, "ggml_backend_load_all")) load_all();
  const auto init = find_function<Backend*(int, const char*)>(library, "ggml_backend_init_by_type");
  const auto device = find_function<Device*(int)>(library, "ggml_backend_dev_by_type");
  const auto registry = find_function<Registry*(Device*)>(library, "ggml_backend_dev_backend_reg");
  const auto address =
      find_function<void*(Registry*, const char*)>(library, "ggml_backend_reg_get_proc_address");
  if (!init || !device || !registry || !address || device(kCpuDevice) == nullptr) return;
  ggml.cpu = init(kCpuDevice, nullptr);
  ggml.set_n_threads = reinterpret_cast<void (*)(Backend*, int)>(
      address(registry(device(kCpuDevice)), "ggml_backend_set_n_threads"));
}

}  // namespace

Result<Peer> Peer::open(std::string name, const std::string& path) {
  // Deep binding: what it calls by a name that another peer has too is its own.
  void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
  if (library == nullptr)
    return fail(ErrorCode::kNotFound, fmt::format("peer {}: {}", name, dlerror()));
  // It logs every repacked tensor.
  using Log = void(int level, const char* text, void* user);
  if (const auto log_set = find_function<void(Log*, void*)>(library, "ggml_log_set"))
    log_set([](int, const char*, void*) {}, nullptr);
  auto ggml = std::make_shared<GgmlFunctions>();
  std::string missing;
  const auto need = [&]<class Function>(Function*& function, const char* symbol) {
    function = find_function<Function>(library, symbol);
    if (function == nullptr) missing += fmt::format("{}{}", missing.empty() ? "" : ", ", symbol);
  };
  need(ggml->init, "ggml_init");
  need(ggml->free, "ggml_free");
  need(ggml->tensor_overhead, "ggml_tensor_overhead");
  need(ggml->graph_overhead, "ggml_graph_overhead");
  need(ggml->new_tensor_2d, "ggml_new_tensor_2d");
  need(ggml->mul_mat, "ggml_mul_mat");
  need(ggml->new_graph, "ggml_new_graph");
  need(ggml->build_forward_expand, "ggml_build_forward_expand");
  need(ggml->blck_size, "ggml_blck_size");
  need(ggml->default_buffer_type, "ggml_backend_get_default_buffer_type");
  need(ggml->alloc_buffer, "ggml_backend_buft_alloc_buffer");
  need(ggml->free_buffer, "ggml_backend_buffer_free");
  need(ggml->buffer_base, "ggml_backend_buffer_get_base");
  need(ggml->alloc_size, "ggml_backend_buft_get_alloc_size");
  need(ggml->tensor_alloc, "ggml_backend_tensor_alloc");
  need(ggml->tensor_set, "ggml_backend_tensor_set");
  need(ggml->tensor_get, "ggml_backend_tensor_get");
  need(ggml->graph_compute, "ggml_backend_graph_compute");
  if (!missing.empty())
    return fail(ErrorCode::kUnsupported,
                fmt::format("peer {}: {} has no function {}", name, path, missing));
  find_processor(library, *ggml);
  if (ggml->cpu == nullptr || ggml->set_n_threads == nullptr)
    return fail(ErrorCode::kUnsupported,
                fmt::format("peer {}: {} has no code for this processor", name, path));
  find_repack_buffers(library, *ggml);
  ggml->repack_tensor = find_function<void(Tensor*)>(library, "iqk_repack_tensor");
  ggml->repacked_type = find_function<int(const Tensor*)>(library, "iqk_repacked_type");

  Peer peer;
  peer.name_ = std::move(name);
  peer.parts_ = {file_of(reinterpret_cast<const void*>(ggml->init)),
                 file_of(reinterpret_cast<const void*>(ggml->set_n_threads))};
  peer.ggml_ = std::move(ggml);
  return peer;
}

std::string Peer::folder() const {
  return parts_[0].parent_path().string();
}

bool Peer::shares_code_with(const Peer& other) const {
  return parts_[0] == other.parts_[0] || parts_[1] == other.parts_[1];
}

bool Peer::can_load(const MatrixView& w, bool repacked) const {
  const int type = static_cast<int>(w.type);
  if (w.layout != Layout::kRows) return false;
  if (static_cast<std::size_t>(ggml_->blck_size(type)) != type_info(w.type).block_size)
    return false;
  if (!repacked) return true;
  Memory memory(ggml_, 3, 0);
  const auto cols = static_cast<std::int64_t>(w.cols);
  Tensor* const matrix =
      ggml_->new_tensor_2d(memory.context(), type, cols, static_cast<std::int64_t>(w.rows));
  if (ggml_->repack_tensor != nullptr && ggml_->repacked_type != nullptr)
    return ggml_->repacked_type(matrix) != type;
  if (ggml_->repack_type == nullptr) return false;
  std::byte* const at = memory.allocate(ggml_->repack_type, w.bytes() + kAlign);
  if (at == nullptr) return false;
  memory.place(matrix, at);
  Tensor* const x = ggml_->new_tensor_2d(memory.context(), kF32, cols, 1);
  return ggml_->supports_op(ggml_->device, ggml_->mul_mat(memory.context(), matrix, x));
}

Result<std::shared_ptr<PeerMatrix>> Peer::load(const MatrixView& w, bool repacked,
                                               std::size_t copies) const {
  const GgmlFunctions& ggml = *ggml_;
  auto matrix = std::make_shared<GgmlMatrix>(ggml_, copies);
  matrix->matrix_bytes = w.bytes();
  matrix->rows = w.rows;
  BufferType* const type = repacked && ggml.repack_type != nullptr
                               ? ggml.repack_type
                               : ggml.default_buffer_type(ggml.cpu);
  for (std::size_t i = 0; i < copies; ++i)
    matrix->tensors.push_back(ggml.new_tensor_2d(matrix->memory.context(), static_cast<int>(w.type),
                                                 static_cast<std::int64_t>(w.cols),
                                                 static_cast<std::int64_t>(w.rows)));
  const std::size_t size = aligned(ggml.alloc_size(type, matrix->tensors[0]));
  std::byte* const at = matrix->memory.allocate(type, copies * size);
  if (at == nullptr)
    return fail(ErrorCode::kOutOfMemory,
                fmt::format("peer {}: no memory for {} copies of {} bytes", name_, copies, size));
  for (std::size_t i = 0; i < copies; ++i) {
    matrix->memory.place(matrix->tensors[i], at + i * size);
    ggml.tensor_set(matrix->tensors[i], w.data, 0, w.bytes());
    if (repacked && ggml.repack_type == nullptr) ggml.repack_tensor(matrix->tensors[i]);
  }
  return matrix;
}

Result<std::unique_ptr<PeerProduct>> Peer::product(std::shared_ptr<PeerMatrix> w,
                                                   Span2d<const float> x, int n_threads) const {
  auto product = std::make_unique<GgmlProduct>(std::static_pointer_cast<GgmlMatrix>(std::move(w)),
                                               x.rows, n_threads);
  if (!product->prepare(x))
    return fail(ErrorCode::kOutOfMemory, fmt::format("peer {}: no memory for results", name_));
  return product;
}

}  // namespace kquant::bench
