#!/usr/bin/env bash
# Measures the products of every format on this machine and prints them as shares of its limits, and
# beside those of other libraries where there are some: each FORMAT and SHAPE in a run of its own,
# together with the limits, all of it in random order.
#
#   bench/run.sh [--threads 1|2|"1 2"] [--m 1,8,64,512] [--formats "Q4_K Q6_K"] [--shapes FILE|4096x4096,…]
#                [--isa "avx2 avx512vnni"] [--layouts "packed rows"] [--repetitions 5]
#                [--rounds 1] [--peer NAME=PATH/libggml.so]... [--out FOLDER] [--table "OPTIONS of table.py"]
#
# Where in memory weights lie differs from process to process and moves what is bound by memory by ten
# per cent: with --rounds everything is run as often, and medians of rounds are printed.
#
# A libggml.so of the system is a peer without being asked for; --peer= leaves it out. Results stay in
# FOLDER (build/bench/results) as Google Benchmark's JSON, a file a run, and together in results.json.
set -euo pipefail
cd "$(dirname "$0")/.."

threads=1 m=1,8,64,512 shapes=bench/shapes/llama_8b.txt layouts=packed repetitions=5 rounds=1
formats="Q2_K Q3_K Q4_K Q5_K Q6_K Q8_0 Q4_0 Q4_1 Q5_0 Q5_1"
isas="avx2 avx512vnni neon neon_dotprod neon_i8mm" out=build/bench/results table=()
peers=()
while [[ $# -gt 0 ]]; do
  option=$1
  if [[ $option == --*=* ]]; then  # --m=1 as well as --m 1
    value=${option#*=} option=${option%%=*}
    shift
  elif [[ $option == --help || $# -lt 2 ]]; then
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"
    [[ $option == --help ]] && exit 0 || exit 2
  else
    value=$2
    shift 2
  fi
  case $option in
    --threads) threads=$value ;;
    --m) m=$value ;;
    --formats) formats=$value ;;
    --shapes) shapes=$value ;;
    --isa) isas=$value ;;
    --layouts) layouts=$value ;;
    --repetitions) repetitions=$value ;;
    --rounds) rounds=$value ;;
    --peer) peers+=("--peer=$value") ;;
    --out) out=$value ;;
    --table) read -ra table <<<"$value" ;;
    *) echo "$0: no option $option (see --help)" >&2; exit 2 ;;
  esac
done

examples/install_packages.sh --bench
cmake --preset bench >/dev/null
cmake --build --preset bench --target matmul_bench | { grep -vE '^\[[0-9]+/[0-9]+\]|no work to do' || true; } >&2
mkdir -p "$out"
any() { tr ' ' '|' <<<"$1"; }
if [[ -f $shapes ]]; then
  shape_list=$(sed 's/#.*//' "$shapes" | awk 'NF == 2 { print $1 "x" $2 }')
else
  shape_list=${shapes//,/ }
fi
files=()
for round in $(seq "$rounds"); do
  for n in $threads; do
    for shape in $shape_list; do
      for format in $formats; do
        file=$out/$format.$shape.threads$n.round$round.json
        echo "$format $shape threads: $n round: $round" >&2
        OMP_NUM_THREADS=$n build/bench/bench/matmul_bench --shapes="$shape" --m="$m" "${peers[@]}" \
          --benchmark_filter="^(read|multiply)/|^matmul/$format/(($(any "$isas"))/($(any "$layouts"))|peer:[^/]*/[^/]*)/$shape/" \
          --benchmark_repetitions="$repetitions" --benchmark_enable_random_interleaving=true \
          --benchmark_min_time=0.05 --benchmark_out="$file" --benchmark_out_format=json >"$out/log.txt" 2>&1 ||
          { cat "$out/log.txt" >&2; exit 1; }
        grep -h "ERROR OCCURRED" "$out/log.txt" >&2 || true
        files+=("$file")
      done
    done
  done
done
bench/table.py "${files[@]}" --json "$out/results.json" "${table[@]}"
