#!/usr/bin/env python3
"""Compares registers, stack, spills and static shared memory of every kernel with resources.csv.

Usage: check_resources.py [--update] TABLE BUILD_FOLDER

The build keeps what ptxas says of each object (cuda/keep_report.py). A kernel that takes more than the
table says fails, a new or vanished one too: --update writes the table anew, and the change is reviewed
like any other.
"""
import csv
import re
import subprocess
import sys
from pathlib import Path

COLUMNS = ["kernel", "architecture", "registers", "stack", "spill_stores", "spill_loads", "static_shared"]
ENTRY = re.compile(r"Compiling entry function '(\S+)' for '(\S+)'")
MEMORY = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")


def demangled(names: list[str]) -> list[str]:
    text = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True).stdout
    short = []
    for name in text.splitlines():
        name = re.sub(r"^void |kquant::cuda::|kquant::", "", name)
        short.append(re.sub(r"\((?:bool|int|Numbers)\)", "", name).split("(")[0])
    return short


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
    update = "--update" in sys.argv
    table, folder = (Path(a) for a in sys.argv[1:] if a != "--update")
    found = read_reports(folder)
    if not found:
        print(f"{folder}: no reports of ptxas; build the target kquant_cuda first")
        return 1
    if update:
        with table.open("w", newline="") as file:
            out = csv.writer(file, lineterminator="\n")
            out.writerow(COLUMNS)
            for key in sorted(found):
                out.writerow([*key, *found[key]])
        print(f"{table}: {len(found)} kernels")
        return 0
    with table.open(newline="") as file:
        recorded = {(r["kernel"], r["architecture"]): [int(r[c]) for c in COLUMNS[2:]] for r in csv.DictReader(file)}
    problems = []
    for key in sorted(found.keys() | recorded.keys()):
        name = f"{key[0]} for {key[1]}"
        if key not in found:
            problems.append(f"{name}: is in the table, but was not built")
        elif key not in recorded:
            problems.append(f"{name}: not in the table: {found[key]}")
        else:
            problems += [f"{name}: {column} {now}, recorded {then}"
                         for column, now, then in zip(COLUMNS[2:], found[key], recorded[key]) if now > then]
    print("\n".join(problems) or f"{len(found)} kernels take no more than recorded")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
