#!/usr/bin/env bash
# Builds kquant, then asks the embedded model all its questions at every quantization level and
# writes what each level costs. The result is in build/quickstart: report.html, report.md and
# report.csv, the quantized models and every answer.
set -euo pipefail
cd "$(dirname "$0")/.."

examples/install_packages.sh
preset=release
if [[ ! -d build/release && -d build/dev ]]; then preset=dev; fi  # what test/run.sh has built serves
echo "building (some minutes the first time) ..."
cmake --preset $preset >/dev/null
cmake --build --preset $preset --target kquant_cli | { grep -vE '^\[[0-9]+/[0-9]+\]|no work to do' || true; }

kquant=build/$preset/examples/kquant/kquant
$kquant study examples/embedded_model/study.json -o build/quickstart
$kquant report build/quickstart
sed '/^## How to read this/,$d' build/quickstart/report.md
