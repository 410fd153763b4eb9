#!/usr/bin/env python3
"""matmul_bench's results as table.py and roofline.py read them, and its refusals.

Usage: matmul_bench_test.py MATMUL_BENCH BENCH_FOLDER
"""
import json
import os
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

MATMUL_BENCH, BENCH = sys.argv.pop(1), sys.argv.pop(1)


def read_json(path):
    with open(path) as file:
        return json.load(file)


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


class MatmulBench(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.results = os.path.join(cls.folder.name, "results.json")
        done = run(MATMUL_BENCH, "--shapes=2048x1024", "--m=1,5", "--peer=", "--benchmark_min_time=0.001",
                   "--benchmark_repetitions=2", "--benchmark_filter=^(read|multiply)/|^matmul/(Q4_K|Q5_1)/.*/packed/",
                   f"--benchmark_out={cls.results}")
        assert done.returncode == 0, done.stderr
        cls.benchmarks = read_json(cls.results)["benchmarks"]
        cls.isas = sorted({b["run_name"].split("/")[2] for b in cls.benchmarks if b["run_name"].startswith("matmul/")})

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_every_result_was_checked(self):
        products = [b for b in self.benchmarks if b["run_name"].startswith("matmul/") and b["run_type"] == "iteration"]
        self.assertEqual(len(products), 2 * 2 * 2 * len(self.isas))
        for b in products:
            self.assertNotIn("error_occurred", b)
            self.assertTrue(0 < b["error"] < 0.02, b)

    def test_table_has_every_product(self):
        exported = os.path.join(self.folder.name, "records.json")
        done = run(os.path.join(BENCH, "table.py"), self.results, "--errors", "--json", exported)
        self.assertEqual(done.returncode, 0, done.stderr)
        for isa in self.isas:
            for fmt in ("Q4_K", "Q5_1"):
                self.assertIn(f"| {fmt} | {isa} | packed | ", done.stdout)
        self.assertEqual(len(read_json(exported)), 2 * 2 * len(self.isas))

    def test_roofline_is_svg_with_a_point_for_every_product(self):
        if not any(b["run_name"] == f"multiply/{self.isas[0]}" for b in self.benchmarks):
            self.skipTest("no limit is known for this instruction set")
        done = run(os.path.join(BENCH, "roofline.py"), self.results, "--shape", "2048x1024", "--isa", self.isas[0])
        self.assertEqual(done.returncode, 0, done.stderr)
        root = xml.etree.ElementTree.fromstring(done.stdout)
        self.assertEqual(len(root.findall(".//{http://www.w3.org/2000/svg}circle")), 4)

    def test_refusals_say_what_was_expected(self):
        for option, words in (("--shapes=4096", "ROWSxCOLS"), ("--shapes=16x100", "multiple of 256"), ("--m=1,x", "'x'"),
                              ("--peer=ggml", "NAME=PATH"), ("--peer=ggml=/nowhere/libggml.so", "/nowhere/libggml.so")):
            done = run(MATMUL_BENCH, option)
            self.assertEqual(done.returncode, 1, option)
            self.assertIn(words, done.stderr)


unittest.main(verbosity=2)
