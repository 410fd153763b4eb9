#!/usr/bin/env python3
"""A study under mpirun gives the results of one process, and every process does a part.

Usage: study_mpi_test.py KQUANT KQUANT_WITH_MPI EMBEDDED_MODEL_FOLDER MPIEXEC
"""
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

KQUANT, WITH_MPI, MPIEXEC = sys.argv[1], sys.argv[2], sys.argv[4]
FOLDER = Path(sys.argv[3]).resolve()
TIMES = ("seconds", "tokens_per_second")


def without_times(path):
    """Lines of a file of results, but for what differs from run to run."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        for key in TIMES + ("runs",):
            line.pop(key, None)
    lines[0]["shard"] = None
    return lines


class StudyMpi(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.dir = Path(folder.name)
        musr = {"task": "musr", "data": str(FOLDER / "eval" / "musr.jsonl"), "limit": 20, "max_tokens": 40}
        self.config = {"models": [{"path": str(FOLDER / "embedded.gguf")}], "levels": ["Q2_K", "F16"],
                       "tasks": [musr, {"task": "divergence", "data": str(FOLDER / "text_test.txt"), "chunks": 2}]}

    def study(self, out, processes=0):
        (self.dir / "study.json").write_text(json.dumps(self.config))
        command = [KQUANT]
        if processes:
            command = [MPIEXEC, "-n", str(processes), "--oversubscribe", WITH_MPI]
        environment = dict(os.environ, OMP_NUM_THREADS="1", OMPI_ALLOW_RUN_AS_ROOT="1",
                           OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", OMPI_MCA_btl_vader_single_copy_mechanism="none")
        return subprocess.run([*command, "study", self.dir / "study.json", "-o", self.dir / out], capture_output=True,
                              text=True, timeout=300, env=environment)

    def test_results_are_those_of_one_process(self):
        self.assertEqual(self.study("one").returncode, 0)
        done = self.study("three", processes=3)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.count("complete"), 1)  # only one process speaks
        for level in self.config["levels"]:
            cell = Path("results") / "embedded" / level
            for task in ("musr.jsonl", "divergence.jsonl"):
                with self.subTest(f"{level} {task}"):
                    self.assertEqual(without_times(self.dir / "three" / cell / task),
                                     without_times(self.dir / "one" / cell / task))
            parts = [len((self.dir / "three" / cell / f"musr.shard-{i}-of-3.jsonl").read_text().splitlines()) - 1
                     for i in range(3)]
            self.assertEqual(parts, [7, 7, 6])

    def test_a_failing_process_fails_the_run(self):
        self.config["tasks"][1]["data"] = str(self.dir / "no_such.txt")
        done = self.study("failed", processes=2)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("no_such.txt", done.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
