#!/usr/bin/env bash
# Everything that is to be known of an NVIDIA GPU, in one go: builds, runs the GPU tests, then those of small
# shapes and the benchmarks' own launches under compute-sanitizer (memcheck, racecheck), then measures: memory, cuBLAS, every kernel, and a model
# of 8B shape with random weights in each k-quant. Writes DATE-DEVICE.json and .md to docs/performance/.
#
#   bench/gpu/run.sh [--quick] [--skip-tests] [--skip-models] [--nccl FOLDER] [--llama-bench PROGRAM]
#                    [--out FOLDER]
#
# --quick: one shape of matrix, one model. --nccl: where NCCL is (include/ and lib/): the tests also divide
# models, on one card and as many as there are, and models are measured on all of them together.
# --llama-bench: llama.cpp's, built for CUDA: it runs the same models. The tests compare a real model with the
# CPU, too, where KQUANT_TEST_MODELS names a folder with gemma-3-270m-q4_k_m.gguf. Models take 9 GB below
# TMPDIR, one after the other.
#
# What fails is said in the results, and by exit status 1, but does not keep the rest from being measured.
set -euo pipefail

quick=() tests=1 with_models=1 nccl=() llama_bench="" out="" shown=()
while [[ $# -gt 0 ]]; do
  shown+=("$1")
  case $1 in
    --quick) quick=(--quick) ;;
    --skip-tests) tests=0 ;;
    --skip-models) with_models=0 ;;
    --nccl) folder=$(realpath "${2:?a folder}"); nccl=(-D KQUANT_NCCL=ON -D "NCCL_ROOT=$folder"); shown+=(FOLDER); shift ;;
    --llama-bench) llama_bench=$(realpath "${2:?a program}"); shown+=(PROGRAM); shift ;;
    --out) out=$(realpath "${2:?a folder}"); shown+=(FOLDER); shift ;;
    *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit 2 ;;
  esac
  shift
done
recipes=(Q2_K Q3_K_M Q4_K_M Q5_K_M Q6_K Q8_0)
if [[ ${#quick[@]} -gt 0 ]]; then recipes=(Q4_K_M); fi
if [[ $with_models == 0 ]]; then recipes=(); fi
if [[ -n ${KQUANT_TEST_MODELS:-} ]]; then
  KQUANT_TEST_MODELS=$(realpath "$KQUANT_TEST_MODELS")
  export KQUANT_TEST_MODELS
fi
cd "$(dirname "$0")/../.."
out=${out:-$PWD/docs/performance}
export PATH=$PATH:${CUDA_HOME:-/usr/local/cuda}/bin

cards=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU') || { echo "$0: no NVIDIA GPU was found" >&2; exit 1; }
cmake --preset cuda-bench "${nccl[@]}" >/dev/null
cmake --build --preset cuda-bench | { grep -vE '^\[[0-9]+/[0-9]+\]|no work to do' || true; } >&2
build=build/cuda-bench
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

checked=() failed=0
failure() {
  checked+=("--checked" "$1: FAILED")
  failed=1
}
# check WHAT COMMAND...: what passed, and which of it was skipped, without the folders of this machine.
check() {
  local what=$1 log=$work/check.log skipped
  shift
  if "$@" 2>&1 | tee "$log" >&2; then checked+=("--checked" "$what: passed"); else failure "$what"; fi
  while read -r skipped; do
    checked+=("--checked" "$what: $skipped")
  done < <(grep -o 'SKIPPED: .*' "$log" | sed 's|/.*/||' | sort -u)
}
if [[ $tests == 1 ]]; then
  test_cuda=$build/test/cuda/test_cuda
  check "tests" "$test_cuda"
  if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck; do
      check "$tool, small shapes" compute-sanitizer --tool "$tool" --error-exitcode 1 "$test_cuda" -w NoTests '[small]'
      check "$tool, benchmarks" compute-sanitizer --tool "$tool" --error-exitcode 1 "$build/bench/gpu/gpu_bench" --check
    done
  else
    failure "memcheck and racecheck, as compute-sanitizer is not installed"
  fi
else
  checked+=("--checked" "tests were left out")
fi

"$build/bench/gpu/gpu_bench" "${quick[@]}" >"$work/kernels.json"

# measure OPTION RECIPE COMMAND...: its JSON for table.py.
models=()
measure() {
  local option=$1 recipe=$2 json=$work/${1#--}-$2.json
  shift 2
  if "$@" >"$json"; then models+=("$option" "$recipe=$json"); else failure "$option $recipe"; fi
}
for recipe in "${recipes[@]}"; do
  gguf=$work/8b.gguf
  "$build/bench/synthetic_model" --shape 8b --recipe "$recipe" -o "$gguf" >&2
  bench=("$build/bench/model_bench" "$gguf" -p 512 -n 128 --batch "8,32" --json --device)
  measure --model "$recipe" "${bench[@]}" cuda
  if [[ ${#nccl[@]} -gt 0 && $cards -gt 1 ]]; then measure --model-on-all "$recipe" "${bench[@]}" cuda:all; fi
  if [[ -n $llama_bench ]]; then
    measure --llama-bench "$recipe" "$llama_bench" -m "$gguf" -p 512 -n 128 -ngl 99 -fa 1 -o json
  fi
done

mkdir -p "$out"
bench/gpu/table.py "$work/kernels.json" "${models[@]}" "${checked[@]}" --command "bench/gpu/run.sh ${shown[*]}" --out "$out"
exit $failed
