#include "kquant/base/atomic_file.hpp"
#include "kquant/format/all.hpp"

using namespace kquant;

#ifdef HALF_IS_NOT_A_NUMBER
float sum(Half a, Half b) {
  return a + b;
}  // storage only: convert first
#endif

#ifdef FORMAT_OF_WRONG_SIZE
struct Wrong : Q4_K {
  struct Block : Q4_K::Block {
    char extra;
  };
};
static_assert(BlockFormat<Wrong>);
#endif

#ifdef IGNORED_ERROR
void ignore() {
  fail(ErrorCode::kIo, "an error that nobody returns");
}
#endif

static_assert(BlockFormat<Q4_K>);
