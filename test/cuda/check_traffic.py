#!/usr/bin/env python3
"""Runs tests of whole tiles on the PTX of one architecture and checks that no kernel's accesses to memory cost more than
their bytes: all of each sector of device memory is used, no bank of shared memory is asked twice at a time.

Usage: check_traffic.py [--lines] TEST_CUDA_ON_PTX sm_80|sm_90a CUOBJDUMP [TESTS]

ptx/traffic.hpp says what is counted. A kernel fails where its accesses together are five percent beyond the least, or
what LIMITS allows. --lines prints every instruction that costs more than it must, of all kernels.
"""
import csv
import os
import re
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from kernel_table import demangled
from run_on_ptx import run

LIMIT = 1.05
LIMITS = {  # of sectors, of rounds
    # Results leave two dimensions a lane; with thousands of keys, of which tests have 256, they are nothing.
    "attention": (1.2, LIMIT),
    "merge_attention": (1.2, LIMIT),
    "look_up": (2, LIMIT),  # a row a token; the other parts of its sectors come from L1
    # PTX has some of its loads of 16 bytes as four of 4, four rounds each; in the machine code they are one.
    "few_columns<Q4_K>": (LIMIT, 2),
}


def main() -> int:
    program, architecture, cuobjdump, *tests = [a for a in sys.argv[1:] if a != "--lines"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "traffic.csv"
        status = run(program, architecture, cuobjdump, tests or ["[whole]"], {"KQUANT_PTX_TRAFFIC": str(file)})
        if status != 0:
            return status
        with file.open(newline="") as rows:
            lines = list(csv.DictReader(rows))
    names = dict(zip(mangled := sorted({row["kernel"] for row in lines}), demangled(mangled)))
    total: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for row in lines:
        numbers = [int(row[c]) for c in ("sectors", "fewest_sectors", "rounds", "fewest_rounds")]
        for i, n in enumerate(numbers):
            total[names[row["kernel"]]][i] += n
        if "--lines" in sys.argv and (numbers[0] > numbers[1] or numbers[2] > numbers[3]):
            print(f"{names[row['kernel']]}, line {row['line']}: {numbers}")
    failed = False
    for kernel, (sectors, fewest_sectors, rounds, fewest_rounds) in sorted(total.items()):
        allowed = LIMITS.get(kernel, LIMITS.get(kernel.split("<")[0], (LIMIT, LIMIT)))
        found = sectors / max(fewest_sectors, 1), rounds / max(fewest_rounds, 1)
        bad = found[0] > allowed[0] or found[1] > allowed[1]
        failed = failed or bad
        print(f"{'FAILED ' if bad else ''}{kernel}: {found[0]:.2f} of the sectors, {found[1]:.2f} of the rounds")
    return int(failed)


sys.exit(main())
