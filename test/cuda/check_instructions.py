#!/usr/bin/env python3
"""Counts what the compiled kernels execute for a weight, and compares it with instructions.csv.

Usage: check_instructions.py [--update | --markdown] TABLE BUILD_FOLDER CUOBJDUMP

A weight that is read from memory in a byte or less leaves few instructions to unpack it: an SM of a Hopper GPU
issues 128 a clock (of one lane each), while its share of the memory's bandwidth brings some 16 to 19 bytes. Of a
product's kernel the loop with the tensor cores' instructions is counted, of dequantization all that there is, also what
only rows without alignment execute; every instruction once, by the unit that executes it:

    alu      integers, logic, comparisons: 64 a clock
    float    halves and floats: 128 a clock; integer multiplications, 64
    tensor, memory, other

More than two percent beyond the table is a failure: --update writes it anew, and the change is reviewed like any
other. --markdown prints the table of docs/cuda.md.
"""
import re
import sys
from pathlib import Path

from kernel_table import Instruction, compare, compiled, is_there, update

UNITS = {
    "alu": "LOP3 SHF IADD3 PRMT LEA ISETP SEL IMNMX VIADD VIMNMX IABS MOV PLOP3 FSETP FSEL FMNMX".split(),
    "float": "HFMA2 HADD2 HMUL2 FFMA FMUL FADD F2FP IMAD".split(),
    "tensor": "HMMA HGMMA WARPGROUP WARPGROUPSET".split(),
    "memory": "LDS LDG LDGSTS STS STG LDSM LD ST LDC LDL STL".split(),
}
UNIT_OF = {name: unit for unit, names in UNITS.items() for name in names}
COLUMNS = ["instructions", *UNITS]
BYTES = {"Q2_K": 84 / 256, "Q3_K": 110 / 256, "Q4_K": 144 / 256, "Q5_K": 176 / 256, "Q6_K": 210 / 256, "Q8_0": 34 / 32,
         "Q4_0": 18 / 32, "Q4_1": 20 / 32, "Q5_0": 22 / 32, "Q5_1": 24 / 32, "F16": 2}
KERNEL = re.compile(r"(few_columns|many_columns|warpgroup_columns|dequantize)<(\w+)(?:, (\d+))?>")
DEQUANTIZED = 16 * 256 / 32  # weights of a unit that a lane of dequantize has


def loop_of(code: list[Instruction]) -> list[str]:
    """Names of the smallest loop that has most of the tensor cores' products."""
    place = {address: i for i, (address, _, _) in enumerate(code)}
    best: tuple[int, int, list[str]] = (0, 0, [])
    for i, (address, name, rest) in enumerate(code):
        target = re.search(r"0x([0-9a-f]+)", rest) if name == "BRA" else None
        if target and int(target.group(1), 16) <= address:
            names = [n for _, n, _ in code[place[int(target.group(1), 16)]:i + 1]]
            products = sum(n in ("HMMA", "HGMMA") for n in names)
            best = max(best, (products, -len(names), names))
    return best[2]


def count(folder: Path, cuobjdump: str) -> dict[tuple[str, str], list[float]]:
    found: dict[tuple[str, str], list[float]] = {}
    for (name, architecture), code in compiled(folder, "inst/*.o", cuobjdump):
        kernel = KERNEL.match(name)
        if kernel and kernel.group(1) == "dequantize":
            loop, weights = [n for _, n, _ in code if n != "NOP"], DEQUANTIZED
        else:
            loop = loop_of(code) if kernel else []
            if not loop:
                continue
            # A product of 16 rows x 16 columns of weights is 8 of them a lane.
            tiles = {"few_columns": 1, "many_columns": 1 / 8, "warpgroup_columns": 1}[kernel.group(1)]
            products = sum(n in ("HMMA", "HGMMA") for n in loop)
            weights = 8 * products / (tiles * int(kernel.group(3) or 1))
        units = [sum(UNIT_OF.get(n) == unit for n in loop) for unit in UNITS]
        found[name, architecture] = [round(n / weights, 2) for n in (len(loop), *units)]
    return found


def markdown(found: dict[tuple[str, str], list[float]]) -> str:
    shapes = ["few_columns", "many_columns, 16", "many_columns, 32", "many_columns, 128", "warpgroup_columns", "dequantize, 1"]
    titles = ["few rows of X", "… 16", "… 32", "… 128", "more, by wgmma", "dequantized to F16"]
    lines = ["| sm_90a | " + " | ".join(titles) + " |", "|---|" + "--:|" * len(titles)]
    for name, size in BYTES.items():
        cells = []
        for shape in shapes:
            kernel, _, variant = shape.partition(", ")
            number = found[f"{kernel}<{name}{', ' + variant if variant else ''}>", "sm_90a"][0]
            moved = size + 2 if kernel == "dequantize" else size
            cells.append(f"{number:.1f} ({number / moved:.1f})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> int:
    table, folder, cuobjdump = [a for a in sys.argv[1:] if not a.startswith("--")]
    if not is_there(cuobjdump):
        return 0
    found = count(Path(folder), cuobjdump)
    if not found:
        print(f"{folder}: no kernels of products; build the target kquant_cuda first")
        return 1
    if "--markdown" in sys.argv:
        print(markdown(found))
        return 0
    if "--update" in sys.argv:
        return update(Path(table), COLUMNS, found)
    return compare(Path(table), COLUMNS, found, lambda now, then: [
        f"{now[0]} instructions a weight, recorded {then[0]}"] if now[0] > 1.02 * then[0] else [],
        "execute no more for a weight than recorded")


sys.exit(main())
