#define OMPI_SKIP_MPICXX  // the C interface is enough
#include <mpi.h>

#include "processes.hpp"

namespace kquant::cli {

Processes::Processes() {
  MPI_Init(nullptr, nullptr);
  int rank = 0, size = 1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  shard_ = {static_cast<std::size_t>(rank), static_cast<std::size_t>(size)};
}

Processes::~Processes() {
  MPI_Finalize();
}

bool Processes::all(bool successful) const {
  const int mine = successful ? 1 : 0;
  int every = 0;
  MPI_Allreduce(&mine, &every, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
  return every == 1;
}

}  // namespace kquant::cli
