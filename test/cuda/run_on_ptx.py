#!/usr/bin/env python3
"""Runs a program for a device on the CPU, by the PTX of one architecture.

Usage: run_on_ptx.py PROGRAM sm_80|sm_90a CUOBJDUMP [ARGUMENTS]

PROGRAM is linked with ptx/runtime.cpp. Exit status 77, for skipped, where there is no cuobjdump.
"""
import os
import subprocess
import sys
import tempfile

from kernel_table import is_there


def run(program: str, architecture: str, cuobjdump: str, arguments: list[str], environment: dict[str, str]) -> int:
    if not is_there(cuobjdump):
        return 77
    with tempfile.NamedTemporaryFile(mode="w", suffix=".ptx") as file:
        done = subprocess.run([cuobjdump, "-ptx", "-arch", architecture, program], capture_output=True, text=True, check=True)
        if ".entry" not in done.stdout:
            print(f"{program}: no PTX of {architecture}\n{done.stderr}")
            return 1
        file.write(done.stdout)
        file.flush()
        return subprocess.run([program, *arguments], env=os.environ | environment | {"KQUANT_PTX": file.name}).returncode


if __name__ == "__main__":
    program, architecture, cuobjdump, *arguments = sys.argv[1:]
    sys.exit(run(program, architecture, cuobjdump, arguments, {}))
