#!/usr/bin/env python3
"""permuted_model's file computes what its source does, and no longer has the source's blocks.

Usage: permuted_model_test.py PERMUTED_MODEL KQUANT EMBEDDED_MODEL_FOLDER
"""
import json
import os
import subprocess
import sys
import tempfile
import unittest

PERMUTED_MODEL, KQUANT, MODEL = sys.argv.pop(1), sys.argv.pop(1), sys.argv.pop(1)


def run(*command):
    return subprocess.run(command, capture_output=True, text=True)


class PermutedModel(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def report(self, *command):
        done = run(KQUANT, *command, "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def permute(self, model, out):
        done = run(PERMUTED_MODEL, model, "-o", out)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_the_same_function(self):
        model = os.path.join(MODEL, "embedded.gguf")
        self.permute(model, self.path("permuted.gguf"))
        measured = self.report("perplexity", self.path("permuted.gguf"), "-f", os.path.join(MODEL, "text_test.txt"),
                               "--chunks", "1", "--reference", model)
        self.assertLess(measured["divergence"]["kl"]["mean"], 1e-8)

    def test_other_blocks(self):
        self.report("quantize", os.path.join(MODEL, "embedded.gguf"), self.path("q4.gguf"), "Q4_K_S", "--pure")
        self.report("quantize", self.path("q4.gguf"), self.path("f32.gguf"), "F32")
        self.permute(self.path("q4.gguf"), self.path("permuted.gguf"))
        for name, returns in (("f32.gguf", True), ("permuted.gguf", False)):
            again = self.report("quantize", self.path(name), self.path("again.gguf"), "Q4_K_S", "--pure")
            for tensor in again["tensors"]:
                if tensor["to"] == "Q4_K":
                    self.assertEqual(tensor["rel_rmse"] < 0.01, returns, tensor)

    def test_refusals(self):
        done = run(PERMUTED_MODEL, self.path("none.gguf"), "-o", self.path("out.gguf"))
        self.assertEqual(done.returncode, 1)
        self.assertIn("none.gguf", done.stderr)
        self.assertFalse(os.path.exists(self.path("out.gguf")))


unittest.main()
