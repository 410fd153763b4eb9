#!/usr/bin/env python3
"""Medians of quantize_bench's results as a Markdown table: million weights a second, and in units of
the peer's where it was measured in the same run.

    quantize_bench --peer=… --benchmark_repetitions=5 --benchmark_out=r.json
    bench/quantize_table.py r.json
"""
import json
import statistics
import sys
from collections import defaultdict


def medians(path: str) -> dict[str, float]:
    runs = defaultdict(list)
    with open(path) as file:
        # Run in random order; family_index is the order they were written in.
        for run in sorted(json.load(file)["benchmarks"], key=lambda run: run["family_index"]):
            if run.get("run_type") != "aggregate" and "error_occurred" not in run:
                runs[run["run_name"]].append(run["weights/s"] / 1e6)
    return {name: statistics.median(values) for name, values in runs.items()}


def main() -> None:
    speed = medians(sys.argv[1])
    ours = [n.split("/") for n in speed if n.startswith("quantize/") and "/peer" not in n]
    formats = list(dict.fromkeys(n[1] for n in ours))
    isas = list(dict.fromkeys(n[3] for n in ours))
    efforts = list(dict.fromkeys(n[2] for n in ours))
    columns = [(effort, isa) for effort in efforts for isa in isas]
    print("| type | imatrix | peer | " + " | ".join(f"{e}, {i}" for e, i in columns) + " |")
    print("|---|---|--:|" + "--:|" * len(columns))
    for name in formats:
        for end in ("", "/imatrix"):
            peer = speed.get(f"quantize/{name}/peer{end}")
            cells = []
            for effort, isa in columns:
                value = speed.get(f"quantize/{name}/{effort}/{isa}{end}")
                ratio = f" ({value / peer:.2f}x)" if value and peer else ""
                cells.append(f"{value:.1f}{ratio}" if value else "")
            print(f"| {name} | {'yes' if end else 'no'} | {f'{peer:.1f}' if peer else ''} | "
                  + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
