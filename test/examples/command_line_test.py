#!/usr/bin/env python3
"""The kquant command line, as a user runs it, on the embedded model.

Usage: command_line_test.py KQUANT EMBEDDED_MODEL_FOLDER [CommandLine.TEST]...
"""
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

KQUANT, FOLDER = Path(sys.argv[1]), Path(sys.argv[2])
MODEL = FOLDER / "embedded.gguf"
TEXT = FOLDER / "text_test.txt"
CALIBRATION = FOLDER / "text_calibration.txt"


def run(*arguments, **options):
    return subprocess.run([KQUANT, *map(str, arguments)], capture_output=True, timeout=300, **options)


class CommandLine(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.dir = Path(folder.name)

    def ok(self, *arguments, **options):
        done = run(*arguments, **options)
        self.assertEqual(done.returncode, 0, done.stderr.decode(errors="replace"))
        return done.stdout.decode()

    def refused(self, expected, *arguments, **options):
        """Fails with one line that says `expected`, and leaves no file behind."""
        before = sorted(self.dir.iterdir())
        done = run(*arguments, **options)
        message = done.stderr.decode(errors="replace")
        self.assertGreater(done.returncode, 0, message)
        self.assertIn(expected, message)
        self.assertEqual(message.count("\n"), 1, message)
        self.assertEqual(sorted(self.dir.iterdir()), before)

    # Help and usage

    def test_help_of_every_command_has_an_example(self):
        for command in ["inspect", "quantize", "imatrix", "run", "perplexity", "tokenize", "blocks"]:
            with self.subTest(command):
                self.assertIn("kquant " + command, self.ok(command, "--help"))

    def test_no_command_and_unknown_options_are_usage_errors(self):
        self.assertEqual(run().returncode, 2)
        self.assertEqual(run("inspect", MODEL, "--colour").returncode, 2)

    def test_a_million_metadata_keys_are_listed(self):
        keys, path = 1_000_000, self.dir / "keys.gguf"
        with open(path, "wb") as file:
            file.write(b"GGUF" + struct.pack("<IQQ", 3, 0, keys))
            for i in range(keys):
                key = b"key.%d" % i
                file.write(struct.pack("<Q", len(key)) + key + struct.pack("<II", 4, i))
        metadata = json.loads(self.ok("inspect", path, "--json"))["metadata"]
        self.assertEqual((len(metadata), metadata["key.123456"]), (keys, 123456))

    def test_threads_wait_briefly_unless_the_user_says_how(self):
        def environment(**settings):
            clean = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
            child = subprocess.Popen([KQUANT, "tokenize", MODEL, "-f", "-"], stdin=subprocess.PIPE,
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**clean, **settings})
            time.sleep(0.5)
            found = Path(f"/proc/{child.pid}/environ").read_bytes()
            self.gcc = "libgomp" in Path(f"/proc/{child.pid}/maps").read_text()
            child.communicate(b"x")
            return found
        default = environment()
        self.assertEqual(b"GOMP_SPINCOUNT=1000" in default, self.gcc)
        self.assertNotIn(b"GOMP_SPINCOUNT", environment(OMP_WAIT_POLICY="active"))
        self.assertIn(b"GOMP_SPINCOUNT=77", environment(GOMP_SPINCOUNT="77"))

    # The main job

    def test_quantize_inspect_run_and_measure(self):
        out = self.dir / "q4.gguf"
        report = json.loads(self.ok("quantize", MODEL, out, "q4_k_m", "--json"))
        self.assertEqual(report["file_bytes_after"], out.stat().st_size)
        self.assertTrue(all(t["rel_rmse"] < 0.2 for t in report["tensors"] if "rel_rmse" in t))
        facts = json.loads(self.ok("inspect", out, "--json"))
        self.assertEqual(facts["metadata"]["general.file_type"], 15)
        self.assertAlmostEqual(facts["bits_per_weight"], report["bits_per_weight_after"], places=9)
        types = {t["name"]: t["type"] for t in facts["tensors"]}
        self.assertEqual({t["name"]: t["to"] for t in report["tensors"]}, types)
        result = json.loads(self.ok("perplexity", out, "-f", TEXT, "--chunks", 2, "--reference", MODEL, "--json"))
        self.assertGreater(result["divergence"]["kl"]["mean"], 0)
        self.assertLess(result["divergence"]["kl"]["mean"], 0.2)
        self.assertGreater(result["divergence"]["same_top"]["mean"], 0.9)
        once = self.ok("run", out, "-p", "Question:", "-n", 12, "--seed", 7)
        self.assertEqual(once, self.ok("run", out, "-p", "Question:", "-n", 12, "--seed", 7))
        self.assertTrue(once.startswith("Question:"))
        eighth = json.loads(self.ok("perplexity", out, "-f", TEXT, "--chunks", 2, "--kv-type", "q8_0", "--json"))
        self.assertNotEqual(eighth["perplexity"], result["perplexity"])
        self.assertAlmostEqual(eighth["perplexity"] / result["perplexity"], 1, places=1)

    def test_float_activations_are_those_of_a_file_of_floats(self):
        q4, plain, results = self.dir / "q4.gguf", self.dir / "plain.gguf", self.dir / "r.jsonl"
        self.ok("quantize", MODEL, q4, "Q4_K_M", "--effort", "fast")
        self.ok("quantize", q4, plain, "F32")
        def perplexity(model, *options):
            return json.loads(self.ok("perplexity", model, "-f", TEXT, "--chunks", 2, "--json", *options))["perplexity"]
        floats, rounded = perplexity(q4, "--activations", "f32"), perplexity(q4)
        self.assertEqual(floats, perplexity(plain))
        self.assertEqual(rounded, perplexity(q4, "--activations", "INT8"))
        self.assertNotEqual(floats, rounded)
        self.assertAlmostEqual(rounded / floats, 1, delta=0.01)
        prompt = ["-p", "Question:", "-n", 8, "--temp", 0]
        self.assertEqual(self.ok("run", q4, "--activations", "f32", *prompt), self.ok("run", plain, *prompt))
        evaluation = ["eval", q4, "--task", "perplexity", "--data", TEXT, "--chunks", 1, "-o", results]
        self.ok(*evaluation, "--activations", "f32")
        self.refused("holds other results", *evaluation)  # of rounded activations
        self.refused("float activations take an F32 copy", "run", q4, "--activations", "f32", "--keep-mapped", *prompt)
        self.assertEqual(run("run", q4, "--activations", "int4", *prompt).returncode, 2)

    def test_bytes_do_not_depend_on_threads(self):
        files = [self.dir / f"t{n}.gguf" for n in (1, 2, 3)]
        for n, file in zip((1, 2, 3), files):
            self.ok("quantize", MODEL, file, "Q3_K_M", "--threads", n)
        self.assertEqual(files[0].read_bytes(), files[1].read_bytes())
        self.assertEqual(files[0].read_bytes(), files[2].read_bytes())

    def test_dry_run_writes_nothing_and_override_is_followed(self):
        text = self.ok("quantize", MODEL, self.dir / "x.gguf", "Q2_K", "--dry-run", "--tensor-type", "ffn_up=Q8_0")
        self.assertEqual(list(self.dir.iterdir()), [])
        line = next(l for l in text.splitlines() if l.startswith("blk.0.ffn_up.weight"))
        self.assertIn("Q8_0", line)

    def test_imatrix_is_collected_and_used(self):
        imatrix = self.dir / "i.gguf"
        self.ok("imatrix", MODEL, "-f", FOLDER / "text_calibration.txt", "-o", imatrix, "--chunks", 2)
        report = json.loads(self.ok("quantize", MODEL, self.dir / "q2.gguf", "Q2_K_S", "--imatrix", imatrix, "--json"))
        self.assertTrue(any(t.get("weighted_rel_rmse") != t.get("rel_rmse") for t in report["tensors"]))

    # Tokens

    def test_calibrated_quantization_is_nearer_to_the_model(self):
        least, plain, fed = self.dir / "least.gguf", self.dir / "plain.gguf", self.dir / "fed.gguf"
        self.ok("quantize", MODEL, least, "Q2_K", "--least-error")
        self.ok("quantize", MODEL, plain, "Q2_K")
        self.ok("quantize", MODEL, fed, "Q2_K", "--calibrate", CALIBRATION, "--chunks", 8)
        self.assertEqual(plain.stat().st_size, fed.stat().st_size)
        kl = [json.loads(self.ok("perplexity", file, "-f", TEXT, "--chunks", 4, "--reference", MODEL, "--json"))
              ["divergence"]["kl"]["mean"] for file in (least, plain, fed)]
        self.assertLess(kl[1], 0.9 * kl[0])
        self.assertLess(kl[2], 0.7 * kl[1])
        short = self.dir / "short.txt"
        short.write_text("too short")
        self.refused("expected at least one window", "quantize", MODEL, fed, "Q2_K", "--calibrate", short)

    def test_types_for_a_size_are_planned_saved_and_used_again(self):
        out, again, plan = self.dir / "out.gguf", self.dir / "again.gguf", self.dir / "plan.json"
        target = ["--target-bpw", 3.6, "--calibrate", CALIBRATION]
        dry = json.loads(self.ok("quantize", MODEL, out, *target, "--save-plan", plan, "--dry-run", "--json"))
        self.assertFalse(out.exists())
        self.assertTrue(3.4 < dry["bits_per_weight_after"] <= 3.6)
        types = json.loads(plan.read_text())["tensors"]
        self.assertEqual(types, {t["name"]: t["to"] for t in dry["tensors"] if t["reason"] == "plan"})
        self.assertGreater(len(set(types.values())), 2)
        types["blk.0.attn_k.weight"] = "Q8_0"
        plan.write_text(json.dumps({"tensors": types}))
        self.ok("quantize", MODEL, again, "--plan", plan)
        found = {t["name"]: t["type"] for t in json.loads(self.ok("inspect", again, "--json"))["tensors"]}
        self.assertEqual({name: found[name] for name in types}, types)

        size = 1500000
        self.ok("quantize", MODEL, out, "--target-size", "1500kB", "--effort", "fast")
        self.assertTrue(0.95 * size < out.stat().st_size <= size)
        self.refused("reachable are", "quantize", MODEL, again, "--target-bpw", 1.5)
        self.refused("expected one of RECIPE", "quantize", MODEL, again)
        self.refused("expected one of RECIPE", "quantize", MODEL, again, "Q4_K_M", "--target-bpw", 4)
        self.refused("no such file", "quantize", MODEL, again, "--plan", self.dir / "none.json")

    def test_tokenize_and_decode_are_inverse(self):
        text = "def f(x):\n    return x[::-1]  # é 世界"
        ids = self.ok("tokenize", MODEL, "-p", text, "--ids", "--no-special").split()
        back = self.ok("tokenize", MODEL, "--decode", ",".join(ids))
        self.assertEqual(back, text + "\n")
        as_json = json.loads(self.ok("tokenize", MODEL, "-f", "-", "--json", "--no-special", input=text.encode()))
        self.assertEqual([str(t["id"]) for t in as_json], ids)

    # Blocks

    def test_blocks_round_trip_and_show(self):
        rows = self.dir / "rows.f32"
        values = [((7 * i) % 61 - 30) / 30 for i in range(512)]
        rows.write_bytes(struct.pack("<512f", *values))
        packed, back = self.dir / "p", self.dir / "b"
        self.ok("blocks", "encode", "--type", "q6_k", "--cols", 256, rows, packed)
        self.assertEqual(packed.stat().st_size, 2 * 210)
        self.ok("blocks", "decode", "--type", "Q6_K", packed, back)
        for a, b in zip(values, struct.unpack("<512f", back.read_bytes())):
            self.assertAlmostEqual(a, b, delta=0.03)
        self.assertIn("Q6_K block 1: 210 bytes", self.ok("blocks", "show", "--type", "Q6_K", "--block", 1, packed))
        self.refused("there is no block 2", "blocks", "show", "--type", "Q6_K", "--block", 2, packed)
        self.refused("not a multiple", "blocks", "encode", "--type", "Q6_K", "--cols", 100, rows, self.dir / "x")
        rows.write_bytes(struct.pack("<256f", *([0.0] * 255), float("nan")))
        self.refused("row 0, column 255", "blocks", "encode", "--type", "Q6_K", rows, self.dir / "x")

    # Bad input: one line, non-zero, nothing lost

    def test_bad_input_is_one_line_that_says_what_to_do(self):
        out = self.dir / "x.gguf"
        self.refused("Q4_K_M", "quantize", MODEL, out, "Q4_KM")
        self.refused("none.gguf", "inspect", self.dir / "none.gguf")
        self.refused("prompt is empty", "run", MODEL, "-p", "")
        self.refused("leaves no room in a context of 4", "run", MODEL, "-p", "one two three four five six", "--ctx", 4)
        self.refused("outside the vocabulary", "tokenize", MODEL, "--decode", "99999999")
        self.refused("unknown type 'Q9'", "blocks", "show", "--type", "Q9", MODEL)
        self.refused("imatrix", "quantize", MODEL, out, "Q2_K_S")
        self.refused("no/such/folder", "quantize", MODEL, "no/such/folder/x.gguf", "Q8_0")
        self.refused(str(self.dir), "inspect", self.dir)
        self.refused("none.txt", "perplexity", MODEL, "-f", self.dir / "none.txt")

    def test_a_gpu_that_is_not_there_is_said_plainly(self):
        out = self.dir / "by_gpu"
        for command in (["run", MODEL, "-p", "Once", "-n", "2"], ["perplexity", MODEL, "-f", TEXT, "--chunks", "1"],
                        ["eval", MODEL, "--task", "cruxeval-o", "--data", FOLDER / "eval/cruxeval.jsonl", "--limit", "1", "-o", out],
                        ["quantize", MODEL, out, "Q8_0"]):
            for device in ("cuda", "cuda:all"):
                with self.subTest(command[0], device=device):
                    out.unlink(missing_ok=True)
                    done = run(*command, "--device", device)
                    if done.returncode != 0:
                        self.assertRegex(done.stderr, rb"^kquant: (no GPU can be used: .*without CUDA.*|no NVIDIA GPU was found.*)\n$")
                        self.assertEqual(done.stdout, b"")
                        self.assertFalse(out.exists())
        for name in ("gpu", "cuda:", "cuda:x", "cuda:0,", "cuda:-1", "cuda:1,1", "cuda:all,0"):
            self.assertEqual(run("run", MODEL, "-p", "Once", "--device", name).returncode, 2, name)
        self.assertEqual(run("run", MODEL, "-p", "Once", "-n", "2", "--device", "cpu").returncode, 0)

    def test_a_damaged_model_is_refused(self):
        whole = MODEL.read_bytes()
        half = self.dir / "half.gguf"
        half.write_bytes(whole[: len(whole) // 2])
        self.refused("half.gguf", "inspect", half)
        half.write_bytes(b"GGML" + whole[4:])
        self.refused("half.gguf", "run", half, "-p", "x")

    def test_wrong_architecture_and_missing_tensor(self):
        data = MODEL.read_bytes()
        other = self.dir / "other.gguf"
        other.write_bytes(data.replace(struct.pack("<IQ", 8, 5) + b"llama", struct.pack("<IQ", 8, 5) + b"mamba", 1))
        self.refused("mamba", "run", other, "-p", "x")
        other.write_bytes(data.replace(b"blk.0.attn_q.weight", b"blk.0.attn_z.weight"))
        self.refused("blk.0.attn_q.weight", "run", other, "-p", "x")

    def test_text_too_short_for_a_window(self):
        self.refused("token", "perplexity", MODEL, "-f", "-", input=b"short")

    def test_full_disk_keeps_the_old_file(self):
        out = self.dir / "old.gguf"
        out.write_bytes(b"old")
        def small_files():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        self.refused("old.gguf", "quantize", MODEL, out, "Q8_0", preexec_fn=small_files)
        self.assertEqual(out.read_bytes(), b"old")

    def test_interrupt_leaves_no_file(self):
        big = self.dir / "i.gguf"
        process = subprocess.Popen([KQUANT, "imatrix", MODEL, "-f", TEXT, "-o", big], stderr=subprocess.PIPE)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, message = process.communicate(timeout=120)
        if process.returncode != 0:  # a fast machine may have finished
            self.assertEqual(process.returncode, 130, message)
            self.assertIn(b"interrupted", message)
            self.assertEqual(list(self.dir.iterdir()), [])

    def test_nothing_but_the_result_in_a_pipe(self):
        done = run("quantize", MODEL, self.dir / "q.gguf", "Q8_0", "--json")
        self.assertEqual(done.stderr, b"")
        json.loads(done.stdout)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=2)
