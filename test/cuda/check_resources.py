#!/usr/bin/env python3
"""Compares registers, stack, spills and static shared memory of every kernel with resources.csv.

Usage: check_resources.py [--update] TABLE BUILD_FOLDER

The build keeps what ptxas says of each object (cuda/keep_report.py). A kernel that takes more than the
table says fails, a new or vanished one too: --update writes the table anew, and the change is reviewed
like any other.
"""
import re
import sys
from pathlib import Path

from kernel_table import compare, demangled, update

COLUMNS = ["registers", "stack", "spill_stores", "spill_loads", "static_shared"]
ENTRY = re.compile(r"Compiling entry function '(\S+)' for '(\S+)'")
MEMORY = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")


def read_reports(folder: Path) -> dict[tuple[str, str], list[int]]:
    found: dict[tuple[str, str], list[int]] = {}
    for path in sorted(folder.rglob("*.resources")):
        entry, memory = None, [0, 0, 0]
        for line in path.read_text().splitlines():
            if match := ENTRY.search(line):
                entry, memory = match.groups(), [0, 0, 0]
            elif match := MEMORY.search(line):
                memory = [int(n) for n in match.groups()]
            elif entry and (match := USED.search(line)):
                shared = SHARED.search(line)
                found[entry] = [int(match.group(1)), *memory, int(shared.group(1)) if shared else 0]
                entry = None
    names = demangled([name for name, _ in found])
    return {(name, arch): numbers for name, ((_, arch), numbers) in zip(names, found.items())}


def main() -> int:
    table, folder = (Path(a) for a in sys.argv[1:] if a != "--update")
    found = read_reports(folder)
    if not found:
        print(f"{folder}: no reports of ptxas; build the target kquant_cuda first")
        return 1
    if "--update" in sys.argv:
        return update(table, COLUMNS, found)
    return compare(table, COLUMNS, found, lambda now, then: [
        f"{column} {n}, recorded {t:.0f}" for column, n, t in zip(COLUMNS, now, then) if n > t],
        "take no more than recorded")


sys.exit(main())
