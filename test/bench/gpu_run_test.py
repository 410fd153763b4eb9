#!/usr/bin/env python3
"""bench/gpu/run.sh from its options to its tables, with scripts in place of the GPU and of what it builds.

Usage: gpu_run_test.py BENCH_FOLDER TEST_CUDA
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

BENCH, TEST_CUDA = Path(sys.argv.pop(1)), sys.argv.pop(1)
SHAPES = [(4096, 4096), (8192, 8192), (57344, 8192)]
TYPES = ["Q2_K", "Q4_K"]
ROWS = [1, 2, 16, 32, 2048]


def kernels():
    """Results whose worst are known: a read of 4000 GB/s, a copy of 3000."""
    results = []

    def add(kind, type="", m=0, shape=(0, 0), microseconds=1.0, gb=0.0):
        results.append({"kind": kind, "type": type, "m": m, "rows": shape[0], "cols": shape[1],
                        "microseconds": microseconds, "gb_per_s": gb, "tflop_per_s": 1.0})

    add("copy", gb=3000.0)
    add("read", gb=4000.0)
    for shape in SHAPES:
        for m in ROWS:
            add("cublas", "BF16", m, shape, 400.0 if m < 2048 else 1000.0)
        for type in TYPES:
            worst = (type, shape) == ("Q2_K", (8192, 8192))
            for numbers in ("F32", "F16", "BF16"):
                add("dequantize to " + numbers, type, 0, shape, 50.0, 2400.0 if worst and numbers == "F16" else 2850.0)
            for m in ROWS:
                # One row of the small shape is slow, which is no failure; 16 rows of the worst take 1.25 times as long.
                gb = (2000.0 if shape == SHAPES[0] else 3400.0 if worst else 3600.0) if m == 1 else 0.0
                time = 100.0 if m < 16 else 125.0 if m == 16 and worst else 110.0 if m == 16 else 160.0
                add("matmul", type, m, shape, time if m < 2048 else 2000.0 if worst else 1250.0, gb)
            add("matmul, mma.sync", type, 2048, shape, 3000.0)
            add("matmul, other blocks", type, 2, shape, 130.0)
    add("attention", "Q8_0", 1, (16, 4096), 20.0, 2000.0)
    for type in TYPES:
        add("quantize", type, 0, (4096, 4096), 1000.0)
        add("quantize, copied", type, 0, (4096, 4096), 4000.0)
    return {"device": "NVIDIA H100 80GB HBM3", "compute": "9.0", "multiprocessors": 132, "memory": 1 << 36,
            "driver": 13010, "runtime": 13000, "results": results}


MODEL = {"model": "/somewhere/8b.gguf", "cases": [
    {"name": "prefill 512", "tokens_per_second": 9000.0}, {"name": "decode 128", "tokens_per_second": 260.0},
    {"name": "decode 8 x 128", "tokens_per_second": 1500.0}]}
LLAMA = [{"build_commit": "abc123", "n_prompt": 512, "n_gen": 0, "avg_ts": 10000.0},
         {"build_commit": "abc123", "n_prompt": 0, "n_gen": 128, "avg_ts": 200.0}]


class Run(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name) / "a tree"  # with a blank
        shutil.copytree(BENCH / "gpu", self.root / "bench/gpu")
        self.calls = self.root / "calls"
        build = self.root / "build/cuda-bench"
        self.script("bin/nvidia-smi", "echo 'GPU 0: NVIDIA H100'; echo '  MIG 1g.10gb'")
        self.script("bin/cmake", "[[ $* != *missing* ]]")
        self.script("bin/compute-sanitizer", 'echo sanitizer "$@"')
        self.script(build / "test/cuda/test_cuda", "echo \"  SKIPPED: not found: $KQUANT_TEST_MODELS/gemma.gguf\"")
        self.script(build / "bench/synthetic_model", 'while [[ $1 != -o ]]; do shift; done; echo model >"$2"')
        self.json(build / "bench/gpu/gpu_bench", kernels())
        self.json(build / "bench/model_bench", MODEL)
        self.json("llama bench", LLAMA)

    def script(self, path, body):
        path = self.root / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/usr/bin/env bash\nset -e\necho {path.name!r} "$*" >>{str(self.calls)!r}\n{body}\n')
        path.chmod(0o755)

    def json(self, path, content):
        name = Path(path).name.replace(" ", "_") + ".json"
        (self.root / name).write_text(json.dumps(content))
        self.script(path, f"cat {str(self.root / name)!r}")

    def run_script(self, *options):
        return subprocess.run([self.root / "bench/gpu/run.sh", *options], capture_output=True, text=True, cwd=self.root,
                              env={**os.environ, "KQUANT_TEST_MODELS": "models", "PATH": f"{self.root / 'bin'}:{os.environ['PATH']}"})

    def results(self, *options, returncode=0):
        done = self.run_script("--out", "out", *options)
        self.assertEqual(done.returncode, returncode, done.stderr)
        files = sorted((self.root / "out").iterdir())
        self.assertEqual([f.name[10:] for f in files], ["-nvidia-h100-80gb-hbm3.json", "-nvidia-h100-80gb-hbm3.md"])
        return json.loads(files[0].read_text()), files[1].read_text()

    def test_everything_is_run_and_every_figure_is_there(self):
        data, page = self.results("--llama-bench", "llama bench")
        calls = self.calls.read_text().splitlines()
        for expected in ("cmake --preset cuda-bench", "cmake --build --preset cuda-bench", "gpu_bench "):
            self.assertIn(expected, calls)
        for tool in ("memcheck", "racecheck"):
            self.assertIn(f"compute-sanitizer --tool {tool} --error-exitcode 1 build/cuda-bench/test/cuda/test_cuda "
                          "-w NoTests [small]", calls)
            self.assertIn(f"compute-sanitizer --tool {tool} --error-exitcode 1 build/cuda-bench/bench/gpu/gpu_bench --check",
                          calls)
        self.assertEqual(data["command"], "bench/gpu/run.sh --out FOLDER --llama-bench PROGRAM")
        self.assertIn("tests: passed", data["checked"])
        self.assertIn("tests: SKIPPED: not found: gemma.gguf", data["checked"])
        self.assertEqual([m["recipe"] for m in data["models"]], ["Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0"])
        self.assertEqual(data["models_on_all"], [])  # one card
        self.assertNotIn("/somewhere", page + json.dumps(data))
        worst = {s["figure"]: (round(s["worst"], 3), s["where"]) for s in data["summary"]}
        self.assertEqual(worst, {
            "dequantizing to F32, of the copy bandwidth": (0.95, "Q2_K 4096x4096"),
            "dequantizing to F16, of the copy bandwidth": (0.8, "Q2_K 8192x8192"),
            "dequantizing to BF16, of the copy bandwidth": (0.95, "Q2_K 4096x4096"),
            "one row of X, 8192x8192 and larger, of the read bandwidth": (0.85, "Q2_K 8192x8192"),
            "2 to 16 rows of X, in units of one's time": (1.25, "Q2_K 8192x8192 M=16"),
            "16 rows of X, Q4_K, in units of cuBLAS BF16": (3.636, "4096x4096"),
            "32 rows of X, Q4_K, in units of cuBLAS BF16": (2.5, "4096x4096"),
            "2048 rows of X, in units of cuBLAS BF16": (0.5, "Q2_K 8192x8192"),
            "decode of an 8B model, k-quants, in units of llama.cpp": (1.3, "Q2_K"),
            "prefill of an 8B model, k-quants, in units of llama.cpp": (0.9, "Q2_K")})
        self.assertIn("driver for CUDA 13.1, CUDA 13.0.", page)
        for line in ("| Q2_K | 100.0 µs | 85 % | 1.00 | 1.25 |",
                     "| Q2_K | 100.0 µs, 4.00x | 100.0 µs, 4.00x | 125.0 µs, 3.20x | 160.0 µs, 2.50x | 2000.0 µs, 0.50x |",
                     "| Q2_K | 3000.0 µs, 0.33x |",
                     "| Q2_K | 50.0 µs, 95 % | 50.0 µs, 80 % | 50.0 µs, 95 % |",
                     "| Q8_0 | 1 | 16 | 4096 | 20.0 µs | 2000 | 1.0 |",
                     "| Q4_K | 16.78 | 4.19 |",
                     "| Q4_K_M | 9000.0 | 260.0 | 1500.0 |",
                     "| llama.cpp abc123, Q4_K_M | 10000.0 (0.90x) | 200.0 (1.30x) |  |"):
            self.assertIn(line + "\n", page)
        self.assertEqual(list((self.root / "build").rglob("*.gguf")), [])

    def test_several_cards_are_measured_together_with_nccl(self):
        self.script("bin/nvidia-smi", "echo 'GPU 0: NVIDIA H100'; echo 'GPU 1: NVIDIA H100'")
        data, page = self.results("--quick", "--skip-tests", "--nccl", "a folder")
        self.assertEqual([m["recipe"] for m in data["models_on_all"]], ["Q4_K_M"])
        self.assertIn("on all GPUs together", page)
        calls = self.calls.read_text()
        self.assertIn(f"cmake --preset cuda-bench -D KQUANT_NCCL=ON -D NCCL_ROOT={self.root / 'a folder'}\n", calls)
        self.assertIn("gpu_bench --quick\n", calls)
        self.assertIn("--device cuda:all\n", calls)
        self.assertEqual(data["checked"], ["tests were left out"])

    def test_what_fails_is_said_and_the_rest_measured(self):
        self.script("build/cuda-bench/test/cuda/test_cuda", "exit 3")
        self.script("bin/compute-sanitizer", '[[ $2 == racecheck ]]')
        self.script("build/cuda-bench/bench/model_bench", "echo 'GPU 0: no memory' >&2; exit 1")
        data, page = self.results("--quick", returncode=1)
        self.assertEqual(data["checked"], ["tests: FAILED", "memcheck, small shapes: FAILED", "memcheck, benchmarks: FAILED",
                                           "racecheck, small shapes: passed", "racecheck, benchmarks: passed",
                                           "--model Q4_K_M: FAILED"])
        self.assertIn("- tests: FAILED\n", page)
        self.assertTrue(data["results"])
        self.assertEqual(data["models"], [])

    def test_refusals(self):
        self.assertEqual(self.run_script("--help").returncode, 2)
        self.assertIn("--llama-bench PROGRAM", self.run_script("--what").stdout)
        self.assertNotEqual(self.run_script("--nccl").returncode, 0)
        self.script("bin/nvidia-smi", "exit 9")
        done = self.run_script("--skip-models")
        self.assertEqual(done.returncode, 1)
        self.assertIn("no NVIDIA GPU was found", done.stderr)
        self.assertNotIn("cmake", self.calls.read_text())

    def test_there_are_tests_of_small_shapes(self):
        listed = subprocess.run([TEST_CUDA, "--list-test-names-only", "[small]"], capture_output=True, text=True).stdout
        for kernel in ("products of odd shapes, ", "products of odd shapes by warpgroups", "dequantization", "quantizing",
                       "attention", "norms", "gated", "heads", "recorded steps"):
            self.assertIn(kernel, listed)


unittest.main(verbosity=2)
