#!/usr/bin/env bash
# Builds kquant, quantizes the embedded model to every recipe, prints what each one costs and draws it.
# The result is in build/quickstart: the models, recipes.md, recipes.json and recipes.svg.
set -euo pipefail
cd "$(dirname "$0")/.."

examples/install_packages.sh
echo "building (some minutes the first time) ..."
cmake --preset release >/dev/null
cmake --build --preset release | { grep -vE '^\[[0-9]+/[0-9]+\]|no work to do' || true; }

model=examples/embedded_model
build/release/examples/04_recipe_table \
  $model/embedded.gguf $model/text_test.txt $model/text_calibration.txt build/quickstart
