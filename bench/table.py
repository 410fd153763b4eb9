#!/usr/bin/env python3
"""Markdown tables of matmul_bench's results, as shares of the limits measured in the same run.

  matmul_bench --benchmark_repetitions=5 --benchmark_enable_random_interleaving=true \
      --benchmark_out=results.json --benchmark_filter='read_probe|vnni_peak|/avx512vnni/'
  table.py results.json [LAYOUT] [SHAPE]

Of repetitions the median counts. One row of X: GB/s of weights and the share of the read probe; more:
GOP/s (2 a product) and the share of the threads' vpdpbusd peak.
"""
import json
import statistics
import sys


def main():
    layout = sys.argv[2] if len(sys.argv) > 2 else "packed"
    shape = sys.argv[3] if len(sys.argv) > 3 else "4096x4096"
    results = json.load(open(sys.argv[1]))
    threads, runs = int(results["context"]["threads"]), {}
    for run in results["benchmarks"]:
        if run["run_type"] == "iteration":
            runs.setdefault(run["run_name"].removesuffix("/real_time"), []).append(run)
    median = lambda name, key: statistics.median(r[key] for r in runs[name])  # noqa: E731
    read = median("read_probe", "bytes_per_second") / 1e9
    peak = threads * median("vnni_peak", "ops") / 1e9 if "vnni_peak" in runs else None
    cells, columns = {}, set()
    for name in runs:
        parts = name.split("/")
        if parts[0] != "matmul" or parts[3] != layout or parts[4] != shape:
            continue
        m = int(parts[5])
        columns.add(m)
        if m == 1:
            rate = median(name, "weights") / 1e9
            text = f"{rate:.1f} GB/s ({100 * rate / read:.0f} %)"
        else:
            rate = median(name, "ops") / 1e9
            text = f"{rate:.0f}" + (f" ({100 * rate / peak:.0f} %)" if peak else "")
        cells.setdefault((parts[1], parts[2]), {})[m] = text
    print(f"Threads: {threads}. Read probe: {read:.1f} GB/s." + (f" vpdpbusd: {peak:.0f} GOP/s." if peak else "") + "\n")
    columns = sorted(columns)
    print("| format | ISA | " + " | ".join(f"M = {m}" for m in columns) + " |")
    print("|---|---|" + "--:|" * len(columns))
    order = ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "F32", "F16", "BF16"]
    for (fmt, isa), row in sorted(cells.items(), key=lambda c: (order.index(c[0][0]), c[0][1])):
        print(f"| {fmt} | {isa} | " + " | ".join(row.get(m, "") for m in columns) + " |")


main()
