#!/usr/bin/env python3
"""Markdown tables of matmul_bench's results, as shares of the limits measured in the same run.

  bench/table.py RESULTS.json... [--shape 4096x4096] [--isa avx512vnni] [--layout packed]
      [--against NAME] [--errors] [--json OUT.json]

Of repetitions the median counts, and of several runs of the same product the median of theirs. One row of X (M = 1) is bound by memory: GB/s of weights and the share
of the read probe, the better of a plain and a prefetched read by as many threads. More rows: GOP/s (2 a
product) and the share of what as many threads multiply in registers with the same instructions. Then how
many times as fast as the best of the peers (--against: of this one), whose rates are in a table below.
"""
import argparse
import json
import statistics
import sys
from collections import defaultdict

ORDER = ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "F32", "F16", "BF16"]


def runs_of(paths):
    """One record a product and run: threads, shape, format, by (ISA or peer:NAME), layout, m, weights (B/s), ops (1/s),
    error, and the limits of the run that measured it (bytes/s, 1/s)."""
    records = []
    for path in paths:
        with open(path) as file:
            results = json.load(file)
        runs = defaultdict(list)
        for run in results["benchmarks"]:
            if run["run_type"] == "iteration" and not run.get("error_occurred"):
                runs[run["run_name"].removesuffix("/real_time")].append(run)
        median = {name: lambda key, r=r: statistics.median(x[key] for x in r) for name, r in runs.items()}
        read = max(median[n]("bytes_per_second") for n in median if n.startswith("read/"))
        for name in runs:  # registers only: nothing but other programs, or the clock, can slow it down
            spread = max(r["ops"] for r in runs[name]) / min(r["ops"] for r in runs[name]) if name.startswith("multiply/") else 1
            if spread > 1.1:
                print(f"{path}: repetitions of {name} differ by a factor of {spread:.2f}: the machine was busy, and what "
                      "was measured there means little", file=sys.stderr)
        multiply = {n.split("/")[1]: median[n]("ops") for n in median if n.startswith("multiply/")}
        for name in runs:
            if not name.startswith("matmul/"):
                continue
            _, fmt, by, layout, shape, m = name.split("/")
            records.append({
                "threads": int(results["context"]["threads"]), "shape": shape, "format": fmt, "by": by,
                "layout": layout, "m": int(m), "weights": median[name]("weights"), "ops": median[name]("ops"),
                "error": median[name]("error"), "read_limit": read,
                "multiply_limit": multiply.get(by) or (max(multiply.values()) if multiply else None)})
    return records


def load(paths):
    """One record a product: the medians of its runs."""
    rounds = defaultdict(list)
    for r in runs_of(paths):
        rounds[r["threads"], r["shape"], r["format"], r["by"], r["layout"], r["m"]].append(r)
    figures = ("weights", "ops", "error", "read_limit", "multiply_limit")
    return [runs[0] | {f: median_of(runs, f) for f in figures} for runs in rounds.values()]


def is_peer(r):
    return r["by"].startswith("peer:")


def rate(r):
    return r["weights"] if r["m"] == 1 else r["ops"]


def share(r):
    limit = r["read_limit"] if r["m"] == 1 else r["multiply_limit"]
    return rate(r) / limit if limit else None


def text(r):
    if r["m"] == 1:
        return f"{r['weights'] / 1e9:.1f} GB/s"
    return f"{r['ops'] / 1e9:.0f}"


def median_of(records, key):
    values = [r[key] for r in records if r[key] is not None]
    return statistics.median(values) if values else None


def table(head, rows, columns):
    print("| " + " | ".join(head) + " | " + " | ".join(f"M = {m}" for m in columns) + " |")
    print("|" + "---|" * len(head) + "--:|" * len(columns))
    for names, cells in rows:
        print("| " + " | ".join(names) + " | " + " | ".join(cells.get(m, "") for m in columns) + " |")
    print()


def grouped(records):
    """((format, by, layout), {m: record}), in the order of ORDER."""
    rows = defaultdict(dict)
    for r in records:
        rows[r["format"], r["by"], r["layout"]][r["m"]] = r
    return sorted(rows.items(), key=lambda row: (ORDER.index(row[0][0]), row[0][1:]))


def print_part(records, against, errors):
    """One shape and number of threads."""
    ours = [r for r in records if not is_peer(r)]
    peers = [r for r in records if is_peer(r)]
    columns = sorted({r["m"] for r in records})
    first = records[0]
    limits = [f"read {median_of(records, 'read_limit') / 1e9:.1f} GB/s"]
    for isa in sorted({r["by"] for r in ours}):
        if peak := median_of([r for r in ours if r["by"] == isa], "multiply_limit"):
            limits.append(f"multiply {peak / 1e9:.0f} GOP/s ({isa})")
    print(f"### {first['shape'].replace('x', ' x ')}, threads: {first['threads']}\n")
    print("Limits: " + ", ".join(limits) + ".\n")
    best_peer, best_own = {}, {}
    for who, best in ((peers, best_peer), (ours, best_own)):
        for r in who:
            if who is peers and against and r["by"] != f"peer:{against}":
                continue
            key = r["format"], r["m"]
            best[key] = max(best.get(key, 0), rate(r))

    def own_cell(r):
        cell = text(r) + (f", {100 * share(r):.0f} %" if share(r) else "")
        peer = best_peer.get((r["format"], r["m"]))
        return cell + (f", {rate(r) / peer:.2f}x" if peer else "")

    def peer_cell(r):
        own = best_own.get((r["format"], r["m"]))
        return text(r) + (f" ({own / rate(r):.2f}x)" if own else "")

    table(["format", "ISA", "layout"], [(names, {m: own_cell(r) for m, r in row.items()}) for names, row in grouped(ours)],
          columns)
    if peers:
        print("Peers; in parentheses our best in units of theirs.\n")
        table(["format", "peer", "layout"],
              [((f, by.removeprefix("peer:"), layout), {m: peer_cell(r) for m, r in row.items()})
               for (f, by, layout), row in grouped(peers)], columns)
    if errors:
        print("Error of the result against double precision, relative root mean square.\n")
        table(["format", "by", "layout"],
              [((f, by.removeprefix("peer:"), layout), {m: f"{r['error']:.5f}" for m, r in row.items()})
               for (f, by, layout), row in grouped(records)], columns)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+")
    for name in ("shape", "isa", "layout", "against", "json"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--errors", action="store_true")
    args = parser.parse_args()
    records = [r for r in load(args.results)
               if (not args.shape or r["shape"] == args.shape)
               and (is_peer(r) or ((not args.isa or r["by"] == args.isa) and (not args.layout or r["layout"] == args.layout)))]
    parts = defaultdict(list)
    for r in records:
        parts[r["shape"], r["threads"]].append(r)
    for part in parts.values():
        print_part(part, args.against, args.errors)
    if args.json:
        with open(args.json, "w") as out:
            json.dump(records, out, indent=1)


if __name__ == "__main__":
    main()
