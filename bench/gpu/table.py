#!/usr/bin/env python3
"""One JSON file and one Markdown table of what bench/gpu/run.sh measured.

  bench/gpu/table.py KERNELS.json [--model RECIPE=FILE]... [--model-on-all RECIPE=FILE]...
                     [--llama-bench RECIPE=FILE]... [--checked TEXT]... [--command TEXT] --out FOLDER

FILE is what model_bench or llama-bench prints as JSON. Decoding and dequantization come as shares of the
memory's measured bandwidth (read, copied), more rows in units of cuBLAS's BF16 product of the same shape; what
is worst among formats and shapes stands first, beside the goal.
"""
import argparse
import datetime
import json
import re
from pathlib import Path

DECODE = range(2, 17)  # rows of X that should take hardly longer than one
LARGE = 8192 * 8192  # weights from which on one row of X should take what reading them takes
K_QUANTS = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|---|" + "--:|" * (len(header) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def of_kind(data, kind):
    return [r for r in data["results"] if r["kind"] == kind]


def bandwidth(data, kind):
    return of_kind(data, kind)[0]["gb_per_s"]


def microseconds(data, kind):
    """Of a kind's products: {(type, rows, cols, m): time}."""
    return {(r["type"], r["rows"], r["cols"], r["m"]): r["microseconds"] for r in of_kind(data, kind)}


def cublas_over(data, kind):
    """How many times cuBLAS's rate: {(type, rows, cols, m): ratio}."""
    cublas = microseconds(data, "cublas")
    return {key: cublas["BF16", *key[1:]] / time for key, time in microseconds(data, kind).items()}


def tokens_per_second(model):
    return {c["name"]: c["tokens_per_second"] for c in model["cases"]}


def ratios_to_llama(data, case):
    """Of k-quants: {(recipe,): ratio}."""
    return {(m["recipe"],): tokens_per_second(m)[name] / tokens_per_second(m["llama_bench"])[name]
            for m in data["models"] if "llama_bench" in m and m["recipe"].startswith(K_QUANTS)
            for name in tokens_per_second(m["llama_bench"]) if name.startswith(case)}


def summary(data):
    """The worst of each figure that has a goal: among formats, shapes and recipes."""
    found = []

    def add(figure, values, goal, at_most=False):
        if values:
            where = (max if at_most else min)(values, key=values.get)
            found.append({"figure": figure, "worst": values[where], "goal": goal, "at_most": at_most,
                          "where": " ".join(map(str, where))})

    copy, read = bandwidth(data, "copy"), bandwidth(data, "read")
    for numbers in ("F32", "F16", "BF16"):
        add(f"dequantizing to {numbers}, of the copy bandwidth",
            {(r["type"], f"{r['rows']}x{r['cols']}"): r["gb_per_s"] / copy
             for r in of_kind(data, f"dequantize to {numbers}")}, 0.9)
    add("one row of X, 8192x8192 and larger, of the read bandwidth",
        {(r["type"], f"{r['rows']}x{r['cols']}"): r["gb_per_s"] / read for r in of_kind(data, "matmul")
         if r["m"] == 1 and r["rows"] * r["cols"] >= LARGE}, 0.8)
    times, ratios = microseconds(data, "matmul"), cublas_over(data, "matmul")
    add("2 to 16 rows of X, in units of one's time",
        {(t, f"{rows}x{cols}", f"M={m}"): time / times[t, rows, cols, 1]
         for (t, rows, cols, m), time in times.items() if m in DECODE}, 1.1, at_most=True)
    for m in (16, 32):
        add(f"{m} rows of X, Q4_K, in units of cuBLAS BF16",
            {(f"{rows}x{cols}",): ratio for (t, rows, cols, n), ratio in ratios.items() if (t, n) == ("Q4_K", m)}, 3)
    add("2048 rows of X, in units of cuBLAS BF16",
        {(t, f"{rows}x{cols}"): ratio for (t, rows, cols, m), ratio in ratios.items() if m == 2048}, 0.65)
    for case in ("decode", "prefill"):
        add(f"{case} of an 8B model, k-quants, in units of llama.cpp", ratios_to_llama(data, case), 1.3)
    return found


def products(data, rows, cols, kind):
    ratios, times = cublas_over(data, kind), microseconds(data, kind)
    here = {(t, m) for t, *shape, m in times if shape == [rows, cols]}
    ms = sorted({m for _, m in here})
    cublas = microseconds(data, "cublas")
    lines = [["cuBLAS BF16", *(f"{cublas['BF16', rows, cols, m]:.1f} µs" for m in ms)]]
    for kind_of in dict.fromkeys(t for t, *shape, _ in times if shape == [rows, cols]):
        lines.append([kind_of, *(f"{times[kind_of, rows, cols, m]:.1f} µs, {ratios[kind_of, rows, cols, m]:.2f}x"
                                 if (kind_of, m) in here else "" for m in ms)])
    return table(["format", *(f"M = {m}" for m in ms)], lines)


def decoding(data, rows, cols):
    times = microseconds(data, "matmul")
    read = bandwidth(data, "read")
    ms = sorted({m for _, *shape, m in times if shape == [rows, cols] and m in DECODE})
    return table(["format", "M = 1", "of the read bandwidth", *(f"M = {m}" for m in ms)],
                 [[r["type"], f"{r['microseconds']:.1f} µs", f"{100 * r['gb_per_s'] / read:.0f} %",
                   *(f"{times[r['type'], rows, cols, m] / r['microseconds']:.2f}" for m in ms)]
                  for r in of_kind(data, "matmul") if (r["rows"], r["cols"], r["m"]) == (rows, cols, 1)])


def dequantizing(data, rows, cols):
    copy = bandwidth(data, "copy")
    found = {}
    for numbers in ("F32", "F16", "BF16"):
        for r in of_kind(data, f"dequantize to {numbers}"):
            if (r["rows"], r["cols"]) == (rows, cols):
                found.setdefault(r["type"], []).append(
                    f"{r['microseconds']:.1f} µs, {100 * r['gb_per_s'] / copy:.0f} %")
    return table(["dequantizing", "to F32", "to F16", "to BF16"], [[t, *cells] for t, cells in found.items()])


def shape_section(data, rows, cols):
    out = [f"## {rows} x {cols}\n", "Y = X W^T for one row of X; for more, in units of that time:\n",
           decoding(data, rows, cols), "Time, and how many times cuBLAS's rate:\n", products(data, rows, cols, "matmul")]
    if of_kind(data, "matmul, mma.sync"):
        out += ["Where those used `wgmma`, the kernel of `mma.sync` on the same card:\n",
                products(data, rows, cols, "matmul, mma.sync")]
    if of_kind(data, "matmul, other blocks"):
        out += ["Up to 8 rows of X, had the choice between blocks of 32 and of 128 rows of W been the other one:\n",
                products(data, rows, cols, "matmul, other blocks")]
    return out + ["Time, and the share of the copy bandwidth:\n", dequantizing(data, rows, cols)]


def models_section(models, where):
    names = list(dict.fromkeys(name for m in models for name in tokens_per_second(m)))
    rows = []
    for m in models:
        own = tokens_per_second(m)
        rows.append([m["recipe"], *(f"{own[name]:.1f}" for name in names)])
        if "llama_bench" in m:
            peer = tokens_per_second(m["llama_bench"])
            rows.append([f"llama.cpp {m['llama_bench']['build']}, {m['recipe']}",
                         *(f"{peer[name]:.1f} ({own[name] / peer[name]:.2f}x)" if name in peer else "" for name in names)])
    return [f"## A model of 8B shape, random weights{where}: tokens/s\n", table(["", *names], rows)]


def markdown(data):
    version = lambda number: f"{number // 1000}.{number % 1000 // 10}"
    out = [f"# {data['device']}, {data['date']}\n",
           f"`{data['command']}`; driver for CUDA {version(data['driver'])}, CUDA {version(data['runtime'])}.\n",
           *(f"- {line}\n" for line in data["checked"]),
           f"Memory: read {bandwidth(data, 'read'):.0f} GB/s, copied (read + written) "
           f"{bandwidth(data, 'copy'):.0f} GB/s.\n",
           table(["the worst of", "", "goal", "where"],
                 [[s["figure"], f"{s['worst']:.2f}", f"{'≤' if s['at_most'] else '≥'} {s['goal']:.2f}", s["where"]]
                  for s in data["summary"]])]
    for rows, cols in dict.fromkeys((r["rows"], r["cols"]) for r in of_kind(data, "matmul")):
        out += shape_section(data, rows, cols)
    attention = of_kind(data, "attention")
    if attention:
        out.append("## Attention, 32 heads to 8 of 128 dimensions\n")
        out.append(table(["cache", "new tokens", "sequences", "tokens before", "time", "GB/s", "TFLOP/s"],
                         [[r["type"], str(r["m"]), str(r["rows"]), str(r["cols"]), f"{r['microseconds']:.1f} µs",
                           f"{r['gb_per_s']:.0f}", f"{r['tflop_per_s']:.1f}"] for r in attention]))
    copied = {r["type"]: r for r in of_kind(data, "quantize, copied")}
    if copied:
        out.append("## Quantizing bell-shaped weights, effort fast\n")
        rate = lambda r: f"{r['rows'] * r['cols'] / r['microseconds'] * 1e-3:.2f}"
        out.append(table(["to", "10⁹ weights/s", "from and to the CPU's memory"],
                         [[r["type"], rate(r), rate(copied[r["type"]])] for r in of_kind(data, "quantize")]))
    if data["models"]:
        out += models_section(data["models"], "")
    if data["models_on_all"]:
        out += models_section(data["models_on_all"], ", on all GPUs together")
    return "\n".join(out)


def read_models(named):
    models = {}
    for recipe, _, path in (text.partition("=") for text in named):
        models[recipe] = {"recipe": recipe, **json.loads(Path(path).read_text())}
        models[recipe].pop("model", None)  # a path of that machine
    return models


def read_llama_bench(path):
    """Its JSON as model_bench's: a case for each test."""
    tests = json.loads(Path(path).read_text())
    kinds = {True: "prefill", False: "decode"}
    return {"build": tests[0]["build_commit"],
            "cases": [{"name": f"{kinds[t['n_prompt'] > 0]} {t['n_prompt'] or t['n_gen']}",
                       "tokens_per_second": t["avg_ts"]} for t in tests if not (t["n_prompt"] and t["n_gen"])]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kernels", type=Path)
    for option in ("--model", "--model-on-all", "--llama-bench", "--checked"):
        parser.add_argument(option, action="append", default=[])
    parser.add_argument("--command", default="")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    data = {"date": datetime.date.today().isoformat(), "command": arguments.command, "checked": arguments.checked,
            **json.loads(arguments.kernels.read_text())}
    models = read_models(arguments.model)
    for recipe, _, path in (text.partition("=") for text in arguments.llama_bench):
        models[recipe]["llama_bench"] = read_llama_bench(path)
    data["models"] = list(models.values())
    data["models_on_all"] = list(read_models(arguments.model_on_all).values())
    data["summary"] = summary(data)
    name = data["date"] + "-" + re.sub(r"[^a-z0-9]+", "-", data["device"].lower()).strip("-")
    (arguments.out / (name + ".json")).write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    (arguments.out / (name + ".md")).write_text(markdown(data))
    print(arguments.out / (name + ".md"))


main()
