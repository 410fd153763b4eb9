#!/usr/bin/env python3
"""Checks that kernels of launches that overlap wait for each other, in the compiled code.

Usage: check_overlap.py BUILD_FOLDER CUOBJDUMP

On compute capability 9.0 a launch may begin before the one before it has ended (wait_for_previous_launches() in
cuda/vocabulary.hpp). So every kernel has the instruction that waits (ACQBULK), and before it no access to device
memory, but for the asynchronous copies by which a product asks for its first weights.
"""
import sys
from pathlib import Path

from kernel_table import compiled, is_there

ACCESSES = {"LD", "LDG", "ST", "STG", "RED", "REDG", "ATOM", "ATOMG", "LDGSTS", "UBLKCP", "UBLKPF", "CCTL"}


def problem_of(name: str, code: list[str]) -> str | None:
    if "ACQBULK" not in code:
        return "does not wait for previous launches"
    allowed = {"LDGSTS"} if name.startswith(("few_columns<", "many_columns<")) else set()
    early = ACCESSES.intersection(code[:code.index("ACQBULK")]) - allowed
    return f"{', '.join(sorted(early))} before it waits for previous launches" if early else None


def main() -> int:
    folder, cuobjdump = sys.argv[1:]
    if not is_there(cuobjdump):
        return 0
    kernels = {name: [i.name for i in code]
               for (name, _), code in compiled(Path(folder), "*.cu.o", cuobjdump, "-arch", "sm_90a")}
    if not kernels:
        print(f"{folder}: no kernels for sm_90a; build the target kquant_cuda first")
        return 1
    problems = [f"{name}: {problem}" for name, code in kernels.items() if (problem := problem_of(name, code))]
    print("\n".join(problems) or f"{len(kernels)} kernels wait for previous launches before they touch their results")
    return 1 if problems else 0


sys.exit(main())
