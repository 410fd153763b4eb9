#!/usr/bin/env python3
"""Checks that #include arrows point down only (docs/architecture.md draws the layers).

Usage: check_includes.py SOURCE_FOLDER
"""
import re
import sys
from pathlib import Path

# Which layer a file of ours belongs to: the longest prefix decides.
LAYER = {
    "include/kquant/base/": "base",
    "include/kquant/format/": "format",
    "include/kquant/format/info.hpp": "format info",
    "include/kquant/gguf.hpp": "gguf",
    "include/kquant/quantize.hpp": "quantize",
    "include/kquant/allocation.hpp": "quantize",
    "include/kquant/error_feedback.hpp": "quantize",
    "include/kquant/imatrix.hpp": "quantize",
    "include/kquant/recipe.hpp": "quantize",
    "include/kquant/quantize_model.hpp": "quantize",
    "include/kquant/dispatch.hpp": "isa",
    "include/kquant/matmul.hpp": "matmul",
    "include/kquant/cuda.hpp": "cuda",
    "include/kquant/model/": "model",
    "include/kquant/eval/": "eval",
    "kernels/": "kernels",
    "cuda/": "cuda",
    "cuda/model/": "cuda model",
    "lib/base/": "base",
    "lib/gguf/": "gguf",
    "lib/quantize/": "quantize",
    "lib/matmul/": "matmul",
    "lib/model/": "model",
    "lib/eval/": "eval",
}

# What each layer may include besides itself.
MAY_INCLUDE = {
    "base": set(),
    "format info": {"base"},
    "format": {"base", "format info"},
    "gguf": {"base", "format info"},
    "quantize": {"base", "format", "format info", "gguf", "isa"},
    "isa": {"base"},
    "kernels": {"base", "format", "format info", "isa"},
    "matmul": {"base", "format", "format info", "isa", "kernels"},
    "cuda": {"base", "format", "format info", "matmul", "quantize"},
    "model": {"base", "format info", "gguf", "isa", "kernels", "matmul"},
    "cuda model": {"base", "format info", "gguf", "matmul", "model", "cuda"},
    "eval": {"base", "format info", "gguf", "isa", "matmul", "quantize", "model"},
}

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


def layer_of(path: str) -> str | None:
    best = max((p for p in LAYER if path.startswith(p)), key=len, default=None)
    return LAYER[best] if best else None


def resolve(root: Path, including: Path, name: str) -> str | None:
    for base in (including.parent, root / "include", root / "lib", root):
        candidate = (base / name).resolve()
        if candidate.is_file() and candidate.is_relative_to(root):
            return str(candidate.relative_to(root))
    return None


def main() -> int:
    root = Path(sys.argv[1]).resolve()
    problems, arrows = [], 0
    for folder in ("include", "kernels", "cuda", "lib"):
        for path in sorted((root / folder).rglob("*")):
            if path.suffix not in {".hpp", ".cpp", ".cu", ".cuh"}:
                continue
            own = str(path.relative_to(root))
            layer = layer_of(own)
            if layer is None:
                problems.append(f"{own}: in no layer; add it to {Path(__file__).name}")
                continue
            for name in INCLUDE.findall(path.read_text()):
                target = resolve(root, path, name)
                if target is None:
                    problems.append(f'{own}: "{name}" is no file of ours; write <{name}> for other libraries')
                    continue
                arrows += 1
                target_layer = layer_of(target)
                if target_layer != layer and target_layer not in MAY_INCLUDE[layer]:
                    problems.append(f"{own} ({layer}) must not include {target} ({target_layer})")
    print("\n".join(problems) or f"{arrows} includes, all pointing down")
    return 1 if problems or arrows == 0 else 0


sys.exit(main())
