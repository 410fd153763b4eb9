"""Compiled kernels, and tables of what is known of each: one row for each kernel and architecture, numbers by column."""
import csv
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple
from pathlib import Path

Kernel = tuple[str, str]  # name, architecture
Numbers = dict[Kernel, list]
INSTRUCTION = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+ )?\s*([A-Z][A-Z0-9_]*)\S*\s*([^;]*);")


class Instruction(NamedTuple):
    address: int
    name: str
    operands: str


def demangled(names: list[str]) -> list[str]:
    text = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True).stdout
    short = []
    for name in text.splitlines():
        name = re.sub(r"^void |kquant::cuda::|kquant::", "", name)
        short.append(re.sub(r"\((?:bool|int|Numbers|Split)\)", "", name).split("(")[0])
    return short


def is_there(cuobjdump: str) -> bool:
    """Says, where it is not, that what needs it is skipped."""
    if Path(cuobjdump).exists():
        return True
    print(f"SKIPPED: no cuobjdump ({cuobjdump})")
    return False


def compiled(folder: Path, files: str, cuobjdump: str, *options: str) -> Iterator[tuple[Kernel, list[Instruction]]]:
    """The machine code of all kernels in the object files of a folder."""
    for path in sorted(folder.rglob(files)):
        text = subprocess.run([cuobjdump, "-sass", *options, str(path)], capture_output=True, text=True,
                              check=True).stdout
        for machine in re.split(r"^\s*code for ", text, flags=re.MULTILINE)[1:]:
            parts = re.split(r"^\s*Function : (\S+)$", machine, flags=re.MULTILINE)
            architecture = parts[0].split()[0]
            for name, body in zip(demangled(parts[1::2]), parts[2::2]):
                yield (name, architecture), [Instruction(int(a, 16), n, rest) for a, n, rest in INSTRUCTION.findall(body)]


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
