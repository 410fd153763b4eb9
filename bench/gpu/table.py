#!/usr/bin/env python3
"""One JSON file and one Markdown table of what bench/gpu/run.sh measured.

  bench/gpu/table.py KERNELS.json [--model MODEL.json] [--checked TEXT] [--command TEXT] --out FOLDER

Decoding and dequantization as shares of the memory's measured bandwidth (read, copied), more rows in units
of cuBLAS's BF16 product of the same shape.
"""
import argparse
import datetime
import json
import re
from pathlib import Path


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|---|" + "--:|" * (len(header) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def products_table(results, rows, cols, read, kernel="matmul"):
    mine = {(r["type"], r["m"]): r for r in results if r["kind"] == kernel and (r["rows"], r["cols"]) == (rows, cols)}
    cublas = {r["m"]: r for r in results if r["kind"] == "cublas" and (r["rows"], r["cols"]) == (rows, cols)}
    ms = sorted({m for _, m in mine})
    lines = [["cuBLAS BF16", *(f"{cublas[m]['microseconds']:.1f} µs" for m in ms)]]
    for kind in dict.fromkeys(t for t, _ in mine):
        cells = []
        for m in ms:
            r = mine[kind, m]
            ratio = cublas[m]["microseconds"] / r["microseconds"]
            share = f", {100 * r['gb_per_s'] / read:.0f} %" if m <= 16 else ""
            cells.append(f"{r['microseconds']:.1f} µs{share}, {ratio:.2f}x")
        lines.append([kind, *cells])
    return table(["format", *(f"M = {m}" for m in ms)], lines)


def markdown(data):
    results = data["results"]
    read = next(r["gb_per_s"] for r in results if r["kind"] == "read")
    copy = next(r["gb_per_s"] for r in results if r["kind"] == "copy")
    out = [f"# {data['device']}, {data['date']}\n",
           f"`{data['command']}`; driver {data['driver']}, CUDA {data['runtime']}; {data['checked']}.\n",
           f"Memory: read {read:.0f} GB/s, copied (read + written) {copy:.0f} GB/s.\n"]
    for rows, cols in dict.fromkeys((r["rows"], r["cols"]) for r in results if r["kind"] == "matmul"):
        out.append(f"## {rows} x {cols}\n")
        out.append("Time of Y = X W^T; up to 16 rows of X the share of the read bandwidth at which weights came; in "
                   "units of cuBLAS's rate.\n")
        out.append(products_table(results, rows, cols, read))
        slower = "matmul, mma.sync"
        if any(r["kind"] == slower for r in results):
            out.append("Where those used `wgmma`, the kernel of `mma.sync` on the same card:\n")
            out.append(products_table(results, rows, cols, read, slower))
        lines = [[r["type"], f"{r['microseconds']:.1f} µs", f"{100 * r['gb_per_s'] / copy:.0f} %"] for r in results
                 if r["kind"] == "dequantize" and (r["rows"], r["cols"]) == (rows, cols)]
        out.append(table(["to F16 from", "time", "of the copy bandwidth"], lines))
    attention = [r for r in results if r["kind"] == "attention"]
    if attention:
        out.append("## Attention, 32 heads to 8 of 128 dimensions\n")
        out.append(table(["cache", "new tokens", "sequences", "tokens before", "time", "GB/s", "TFLOP/s"],
                         [[r["type"], str(r["m"]), str(r["rows"]), str(r["cols"]), f"{r['microseconds']:.1f} µs",
                           f"{r['gb_per_s']:.0f}", f"{r['tflop_per_s']:.1f}"] for r in attention]))
    quantized = {(r["kind"], r["type"]): r for r in results if r["kind"].startswith("quantize")}
    if quantized:
        out.append("## Quantizing bell-shaped weights, effort fast\n")
        rate = lambda r: f"{r['rows'] * r['cols'] / r['microseconds'] * 1e-3:.2f}"
        out.append(table(["to", "10⁹ weights/s", "from and to the CPU's memory"],
                         [[kind, rate(r), rate(quantized["quantize, copied", kind])]
                          for (what, kind), r in quantized.items() if what == "quantize"]))
    for key, where in (("model", ""), ("model_on_all", ", on all GPUs together")):
        if key in data:
            out.append(f"## A model of 8B shape, Q4_K_M, random weights{where}\n")
            out.append(table(["case", "tokens/s"],
                             [[c["name"], f"{c['tokens_per_second']:.1f}"] for c in data[key]["cases"]]))
    return "\n".join(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kernels", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--model-on-all", type=Path)
    parser.add_argument("--checked", default="")
    parser.add_argument("--command", default="")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    data = json.loads(arguments.kernels.read_text())
    data["date"] = datetime.date.today().isoformat()
    data["command"] = arguments.command.strip()
    data["checked"] = arguments.checked.replace(";", ", ")
    for key in ("model", "model_on_all"):
        if path := getattr(arguments, key):
            data[key] = json.loads(path.read_text())
            data[key].pop("model", None)  # a path of that machine
    name = data["date"] + "-" + re.sub(r"[^a-z0-9]+", "-", data["device"].lower()).strip("-")
    (arguments.out / (name + ".json")).write_text(json.dumps(data, indent=1) + "\n")
    (arguments.out / (name + ".md")).write_text(markdown(data))
    print(arguments.out / (name + ".md"))


main()
