#pragma once
// Errors are values: every fallible function returns Result<T>. Nothing in the public API throws on
// bad input, aborts or exits. (std::bad_alloc may still pass through.)

#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace kquant {

enum class ErrorCode {
  kInvalidArgument,  ///< the caller asked for something that makes no sense (empty prompt, bad
                     ///< shape)
  kNotFound,         ///< a file, tensor, metadata key or recipe that does not exist
  kIo,               ///< the operating system refused: open, read, write, map, rename, disk full
  kBadFile,          ///< a file's contents break its format
  kUnsupported,      ///< well-formed, but not something this library can do (format, architecture)
  kBadData,          ///< NaN or Inf where a finite number is required
  kOutOfRange,       ///< a context, index or size limit was exceeded
  kUnavailable,      ///< a device or an optional component is not present
  kOutOfMemory,      ///< says how much was asked for
};

/// What went wrong, where, and what was expected. `message` is one line, starts lower-case with the
/// thing concerned ("model.gguf: tensor 'blk.0.attn_q.weight': ...") and ends without a full stop.
/// Names in it come from files: control characters are written as "\n" or "\x1b", so that a message
/// stays on its line and does nothing to a terminal.
struct Error {
  Error() = default;
  Error(ErrorCode error_code, std::string_view text);

  ErrorCode code = ErrorCode::kInvalidArgument;
  std::string message;
};

template <class T>
using Result = tl::expected<T, Error>;

/// `return fail(ErrorCode::kIo, path + ": cannot open: " + reason);`
[[nodiscard]] inline tl::unexpected<Error> fail(ErrorCode code, std::string_view message) {
  return tl::unexpected<Error>(Error{code, message});
}

/// Passes an error of one Result on to another: `if (!file) return fail(file.error());`
[[nodiscard]] inline tl::unexpected<Error> fail(Error error) {
  return tl::unexpected<Error>(std::move(error));
}

/// As above, naming the thing that was being worked on: "CONTEXT: message".
[[nodiscard]] inline tl::unexpected<Error> fail(const Error& error, const std::string& context) {
  return tl::unexpected<Error>(Error{error.code, context + ": " + error.message});
}

}  // namespace kquant
