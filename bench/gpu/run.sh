#!/usr/bin/env bash
# Everything that is to be known of an NVIDIA GPU, in one go: builds, runs the GPU tests, then some of
# them under compute-sanitizer (memcheck, racecheck), then measures: memory, cuBLAS, every kernel, and a
# model of 8B shape with random weights. Writes DATE-DEVICE.json and .md to docs/performance/.
#
#   bench/gpu/run.sh [--quick] [--skip-tests] [--skip-model] [--vocabulary tokenizer.gguf] [--nccl FOLDER]
#                    [--out FOLDER]
#
# --quick: one shape of matrix. --nccl: where NCCL is (include/ and lib/): the tests also divide models, on
# one card and as many as there are, and the model is measured on all of them together. The model needs a
# GGUF file with a SentencePiece vocabulary; without one (or with --skip-model) it is left out. About 20
# minutes with a cold build on 16 cores; a few of them with --quick --skip-tests --skip-model.
set -euo pipefail
cd "$(dirname "$0")/../.."

quick=() tests=1 model=1 vocabulary="" nccl=() out=docs/performance
while [[ $# -gt 0 ]]; do
  case $1 in
    --quick) quick=(--quick) ;;
    --skip-tests) tests=0 ;;
    --skip-model) model=0 ;;
    --vocabulary) vocabulary=$2; shift ;;
    --nccl) nccl=(-D KQUANT_NCCL=ON -D "NCCL_ROOT=$2"); shift ;;
    --out) out=$2; shift ;;
    *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit 2 ;;
  esac
  shift
done
command="bench/gpu/run.sh ${quick[*]:-}"

nvidia-smi -L >/dev/null 2>&1 || { echo "$0: no NVIDIA GPU was found" >&2; exit 1; }
cmake --preset cuda-bench "${nccl[@]}" >/dev/null
cmake --build --preset cuda-bench | { grep -vE '^\[[0-9]+/[0-9]+\]|no work to do' || true; } >&2
build=build/cuda-bench
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

checked=()
if [[ $tests == 1 ]]; then
  "$build/test/cuda/test_cuda" >&2
  checked+=("tests passed")
  if command -v compute-sanitizer >/dev/null; then
    # Shapes that are not whole tiles; racecheck sees shared memory, where the rings and tiles are.
    small='products of odd shapes*,quantizing by pieces*,attention of every kind*,norms*,heads are normed*,decoding by recorded*'
    for tool in memcheck racecheck; do
      compute-sanitizer --tool "$tool" --error-exitcode 1 "$build/test/cuda/test_cuda" "$small" >&2
      checked+=("$tool found nothing")
    done
  else
    checked+=("compute-sanitizer is not installed")
  fi
else
  checked+=("tests were skipped")
fi

"$build/bench/gpu/gpu_bench" "${quick[@]}" >"$work/kernels.json"
models=()
if [[ $model == 1 && -n $vocabulary ]]; then
  "$build/bench/synthetic_model" --shape 8b --recipe Q4_K_M --vocabulary "$vocabulary" -o "$work/8b.gguf" >&2
  "$build/bench/model_bench" "$work/8b.gguf" --device cuda -p 512 -n 128 --batch 8,32 --json >"$work/model.json"
  models=(--model "$work/model.json")
  if [[ ${#nccl[@]} -gt 0 && $(nvidia-smi -L | wc -l) -gt 1 ]]; then
    "$build/bench/model_bench" "$work/8b.gguf" --device cuda:all -p 512 -n 128 --batch 8,32 --json >"$work/all.json"
    models+=(--model-on-all "$work/all.json")
  fi
else
  checked+=("the model was left out")
fi

mkdir -p "$out"
IFS=';'
bench/gpu/table.py "$work/kernels.json" "${models[@]}" --checked "${checked[*]}" --command "$command" --out "$out"
