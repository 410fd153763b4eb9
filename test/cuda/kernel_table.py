"""Tables of what is known of each compiled kernel: one row for each kernel and architecture, numbers by column."""
import csv
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

Kernel = tuple[str, str]  # name, architecture
Numbers = dict[Kernel, list]


def demangled(names: list[str]) -> list[str]:
    text = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True).stdout
    short = []
    for name in text.splitlines():
        name = re.sub(r"^void |kquant::cuda::|kquant::", "", name)
        short.append(re.sub(r"\((?:bool|int|Numbers)\)", "", name).split("(")[0])
    return short


def update(table: Path, columns: Sequence[str], found: Numbers) -> int:
    with table.open("w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["kernel", "architecture", *columns])
        for key in sorted(found):
            out.writerow([*key, *found[key]])
    print(f"{table}: {len(found)} kernels")
    return 0


def compare(table: Path, columns: Sequence[str], found: Numbers,
            worse: Callable[[list, list[float]], list[str]], well: str) -> int:
    """worse(now, recorded) says what is worse of a kernel; `well` is said of them where nothing is."""
    with table.open(newline="") as file:
        recorded = {(r["kernel"], r["architecture"]): [float(r[c]) for c in columns] for r in csv.DictReader(file)}
    problems = []
    for key in sorted(found.keys() | recorded.keys()):
        name = f"{key[0]} for {key[1]}"
        if key not in found:
            problems.append(f"{name}: is in the table, but was not built")
        elif key not in recorded:
            problems.append(f"{name}: not in the table: {found[key]}")
        else:
            problems += [f"{name}: {problem}" for problem in worse(found[key], recorded[key])]
    print("\n".join(problems) or f"{len(found)} kernels {well}")
    return 1 if problems else 0
