#!/usr/bin/env bash
# Installs what is needed, then builds and tests each preset given (default: dev).
#
#   test/run.sh                              gcc, all tests
#   test/run.sh clang asan-ubsan scalar-only          others; see CMakePresets.json
set -euo pipefail
cd "$(dirname "$0")/.."

examples/install_packages.sh --test
if command -v ccache >/dev/null; then
  # A file that two builds compile alike is compiled once; CCACHE_NOHASHDIR: also where -g tells the folder.
  export CMAKE_CXX_COMPILER_LAUNCHER=ccache CCACHE_NOHASHDIR=1
fi
[[ $# -gt 0 ]] || set -- dev
for preset in "$@"; do
  echo "== $preset"
  SECONDS=0
  cmake --preset "$preset" >/dev/null
  cmake --build --preset "$preset" | { grep -vE '^\[[0-9]+/[0-9]+\]|no work to do' || true; }
  built=$SECONDS
  ctest --preset "$preset" --progress
  echo "== $preset: built in $built s, tested in $((SECONDS - built)) s"
done
