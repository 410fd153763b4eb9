#pragma once
// The processes of an MPI run (`mpirun -n N kquant study …`): processes_mpi.cpp; one process where
// kquant was built without MPI (KQUANT_MPI): processes_one.cpp.

#include "kquant/eval/evaluation.hpp"

namespace kquant::cli {

class Processes {
 public:
  Processes();
  ~Processes();
  Processes(const Processes&) = delete;
  Processes& operator=(const Processes&) = delete;

  /// This process's part of the work.
  Shard shard() const { return shard_; }
  /// Waits for all; whether all were successful.
  bool all(bool successful) const;

 private:
  Shard shard_;
};

}  // namespace kquant::cli
