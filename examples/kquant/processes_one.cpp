#include "processes.hpp"

namespace kquant::cli {

Processes::Processes() = default;
Processes::~Processes() = default;

bool Processes::all(bool successful) const {
  return successful;
}

}  // namespace kquant::cli
