#!/usr/bin/env python3
"""KL divergence of one model's quantizations from the model itself, as a Markdown table.

    bench/divergence.py --kquant build/release/examples/kquant/kquant \\
        --model model-f16.gguf --calibrate valid.txt --test test.txt --work /tmp/divergence \\
        --peer Q2_K=llama-q2_k.gguf --peer Q3_K_M=llama-q3_k_m.gguf

Columns: the peer's file, if one is given (made by its own tools, outside of this project); then ours: the recipe
alone, with an importance matrix, with error feedback (--calibrate), types found for the recipe's size
(--target-size), and both. Peer and recipes have the same tensor types; bytes are those of the files. Files are kept in
--work and not made again. Text for calibration and for testing should not overlap.

--weights-only: files are turned back to F32 before they are measured, so that no activation is rounded to 8 bits
and nothing but the error of the weights counts. The reference should be F32, too.
"""
import argparse
import json
import subprocess
import sys
from pathlib import Path


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--kquant", type=Path, required=True)
    options.add_argument("--model", type=Path, required=True, help="what is quantized")
    options.add_argument("--reference", type=Path, help="what is compared with (default: the model)")
    options.add_argument("--calibrate", type=Path, required=True)
    options.add_argument("--test", type=Path, required=True)
    options.add_argument("--work", type=Path, required=True)
    options.add_argument("--recipes", nargs="+", default=["Q2_K", "Q3_K_M", "Q4_K_M"])
    options.add_argument("--ways", nargs="+", default=["plain", "imatrix", "feedback", "types", "both"])
    options.add_argument("--peer", action="append", default=[], metavar="RECIPE=FILE")
    options.add_argument("--calibration-chunks", type=int, default=128)
    options.add_argument("--chunks", type=int, default=40, help="windows of 512 tokens that are measured")
    options.add_argument("--weights-only", action="store_true", help="measure the files' weights as F32")
    given = options.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    peers = dict(peer.split("=", 1) for peer in given.peer)

    def kquant(*arguments) -> str:
        command = [str(given.kquant), *map(str, arguments)]
        print(" ".join(command), file=sys.stderr)
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

    def divergence(model: Path) -> float:
        if given.weights_only:
            dequantized = given.work / "dequantized.gguf"
            kquant("quantize", model, dequantized, "F32")
            model = dequantized
        out = kquant("perplexity", model, "-f", given.test, "--chunks", given.chunks, "--json",
                     "--reference", given.reference or given.model)
        return json.loads(out)["divergence"]["kl"]["mean"]

    imatrix = given.work / "imatrix.gguf"
    if not imatrix.exists() and "imatrix" in given.ways:
        kquant("imatrix", given.model, "-f", given.calibrate, "-o", imatrix, "--chunks", given.calibration_chunks)

    ways = (["peer"] if peers else []) + given.ways
    print("| recipe | bytes | " + " | ".join(ways) + " |")
    print("|---|--:|" + "--:|" * len(ways))
    feedback = ["--calibrate", given.calibrate, "--chunks", given.calibration_chunks]
    for recipe in given.recipes:
        plain = given.work / f"{recipe}-plain.gguf"
        if not plain.exists():
            kquant("quantize", given.model, plain, recipe)
        size = plain.stat().st_size
        plan = given.work / f"{recipe}.plan.json"
        if not plan.exists() and {"types", "both"} & set(given.ways):
            kquant("quantize", given.model, given.work / "unused.gguf", "--target-size", size, *feedback,
                   "--save-plan", plan, "--dry-run")
        arguments = {"imatrix": [recipe, "--imatrix", imatrix], "feedback": [recipe, *feedback],
                     "types": ["--plan", plan], "both": ["--plan", plan, *feedback]}
        cells, first = [], None
        for way in ways:
            path = Path(peers[recipe]) if way == "peer" and recipe in peers else given.work / f"{recipe}-{way}.gguf"
            if way == "peer" and recipe not in peers:
                cells.append("-")
                continue
            if not path.exists():
                kquant("quantize", given.model, path, *arguments[way])
            nats = divergence(path)
            first = first or nats
            shown = f"{nats:.5f}" if nats >= 1e-4 else f"{nats:.2e}"
            cells.append(shown if nats is first else f"{shown} ({100 * (nats / first - 1):+.0f} %)")
        print(f"| {recipe} | {size} | " + " | ".join(cells) + " |", flush=True)


main()
