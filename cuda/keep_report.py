#!/usr/bin/env python3
"""Runs a compiler; keeps what ptxas says of each kernel's registers beside the object file.

Usage: keep_report.py COMPILER ARGUMENT... (as CMake's RULE_LAUNCH_COMPILE). The rest of the compiler's
output is passed on. That ptxas makes asynchronous products wait for each other, which it only mentions, is an
error here. test/cuda/check_resources.py reads OBJECT.resources.
"""
import re
import subprocess
import sys
from pathlib import Path

OF_REPORT = re.compile(r"^(ptxas info\s|\s+\d+ bytes (stack frame|gmem)|Remark: The warnings can be)")


def main() -> int:
    command = sys.argv[1:]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    report, rest, serialized = [], [], False
    for line in done.stdout.splitlines():
        serialized |= "wgmma.mma_async instructions are serialized" in line
        (report if OF_REPORT.match(line) else rest).append(line)
    if serialized:
        rest += [line for line in report if "serialized" in line]
    if rest:
        print("\n".join(rest), flush=True)
    if "-o" in command and report:
        Path(command[command.index("-o") + 1] + ".resources").write_text("\n".join(report) + "\n")
    return done.returncode or int(serialized)


sys.exit(main())
