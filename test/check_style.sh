#!/usr/bin/env bash
# Fails where clang-format 14 would change a tracked source file.
set -euo pipefail
cd "$(dirname "$0")/.."
git ls-files '*.hpp' '*.cpp' '*.cu' '*.cuh' | xargs clang-format --dry-run --Werror
echo "clang-format: $(git ls-files '*.hpp' '*.cpp' '*.cu' '*.cuh' | wc -l) files as they should be"
