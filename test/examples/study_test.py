#!/usr/bin/env python3
"""kquant score, eval, study and report, as a user runs them, on the embedded model.

Usage: study_test.py KQUANT EMBEDDED_MODEL_FOLDER
"""
import gzip
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

KQUANT, FOLDER = Path(sys.argv[1]), Path(sys.argv[2]).resolve()
MODEL, EVAL = FOLDER / "embedded.gguf", FOLDER / "eval"


def run(*arguments):
    return subprocess.run([KQUANT, *map(str, arguments)], capture_output=True, timeout=300)


def lines(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


class Study(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.dir = Path(folder.name)

    def ok(self, *arguments):
        done = run(*arguments)
        self.assertEqual(done.returncode, 0, done.stderr.decode(errors="replace"))
        return done.stdout.decode()

    def refused(self, expected, *arguments):
        done = run(*arguments)
        message = done.stderr.decode(errors="replace")
        self.assertEqual(done.returncode, 1, message)
        self.assertIn(expected, message)

    def config(self, **changes):
        config = {"models": [{"path": str(MODEL)}], "levels": ["Q2_K", "F16"],
                  "tasks": [{"task": "musr", "data": str(EVAL / "musr.jsonl"), "limit": 40, "max_tokens": 40,
                             "batch": 2}]}
        config.update(changes)
        path = self.dir / "study.json"
        path.write_text(json.dumps(config))
        return path

    def test_help_of_every_command_has_an_example(self):
        for command in ["score", "eval", "study", "report"]:
            with self.subTest(command):
                self.assertIn("kquant " + command, self.ok(command, "--help"))

    def test_outputs_of_others_are_scored(self):
        data = [{"question_id": i, "question": "?", "options": ["x", "y"], "answer": "B", "category": "law"}
                for i in range(3)]
        (self.dir / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in data))
        texts = ["the answer is (B)", "Answer: A", "no"]
        with gzip.open(self.dir / "out.jsonl.gz", "wt") as out:
            for i in (2, 0, 1):
                out.write(json.dumps({"question_id": i, "generated_text": texts[i]}) + "\n")
        out = self.ok("score", "--task", "mmlu-pro", "--data", self.dir / "data.jsonl", self.dir / "out.jsonl.gz",
                      "--verdicts", self.dir / "verdicts.jsonl", "--rules", "12")
        self.assertIn("50.0000 %", out)
        self.assertEqual([(v["question_id"], v["extracted"], v["verdict"]) for v in lines(self.dir / "verdicts.jsonl")],
                         [(2, None, False), (0, "B", True), (1, "A", False)])
        broken = (self.dir / "out.jsonl.gz").read_bytes()[:-12]
        (self.dir / "broken.jsonl.gz").write_bytes(broken)
        self.refused("truncated", "score", "--task", "mmlu-pro", "--data", self.dir / "data.jsonl",
                     self.dir / "broken.jsonl.gz")
        self.refused("line 1: field 'context': is missing", "score", "--task", "musr", "--data",
                     self.dir / "data.jsonl", self.dir / "out.jsonl.gz")
        self.refused("no header of results", "score", self.dir / "data.jsonl")

    def test_results_are_scored_again_without_the_model(self):
        results = self.dir / "r.jsonl"
        first = self.ok("eval", MODEL, "--task", "musr", "--data", EVAL / "musr.jsonl", "--limit", 20, "--max-tokens",
                        40, "-o", results)
        again = self.ok("score", results)
        self.assertEqual(again, first[:first.index("speed")])
        self.assertEqual(len(lines(results)), 21)
        self.refused("of other data", "score", results, "--data", EVAL / "cruxeval.jsonl")
        self.refused("line 1", "eval", MODEL, "--task", "musr", "--data", EVAL / "cruxeval.jsonl", "-o",
                     self.dir / "x.jsonl")

    def test_a_study_killed_at_any_time_goes_on(self):
        config, out = self.config(), self.dir / "out"
        self.ok("study", config, "-o", self.dir / "whole")
        for delay in (0.1, 0.3, 0.6):
            process = subprocess.Popen([KQUANT, "study", config, "-o", out], stderr=subprocess.DEVNULL)
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
            process.wait()
        self.ok("study", config, "-o", out)
        for level in ("Q2_K", "F16"):
            whole, resumed = (lines(folder / "results" / "embedded" / level / "musr.jsonl")[1:]
                              for folder in (self.dir / "whole", out))
            for line in whole + resumed:
                line.pop("seconds")
            self.assertEqual(whole, resumed)
            self.assertEqual(len(whole), 40)
        self.assertIn("report.html", self.ok("report", out))
        self.assertIn("within the noise", (out / "report.html").read_text())

    def test_shards(self):
        config, out = self.config(), self.dir / "out"
        for shard in ("0/2", "1/2"):
            self.ok("study", config, "-o", out, "--shard", shard)
        self.ok("study", config, "-o", out, "--merge")
        self.assertEqual(len(lines(out / "results" / "embedded" / "F16" / "musr.jsonl")), 41)
        self.refused("expected I/N", "study", config, "-o", out, "--shard", "2/2")
        self.refused("expected I/N", "study", config, "-o", out, "--shard", "x")

    def test_a_changed_study_is_not_mixed(self):
        self.ok("study", self.config(levels=["F16"]), "-o", self.dir / "out")
        changed = self.config(levels=["F16"], tasks=[{"task": "musr", "data": str(EVAL / "musr.jsonl"), "limit": 5}])
        self.refused("holds other results", "study", changed, "-o", self.dir / "out")


if __name__ == "__main__":
    os.environ["OMP_WAIT_POLICY"] = "passive"
    unittest.main(argv=sys.argv[:1], verbosity=2)
