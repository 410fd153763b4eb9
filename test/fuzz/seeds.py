#!/usr/bin/env python3
"""Writes the first inputs of each fuzz target: small, valid, with something of every kind.

Usage: seeds.py CORPUS_FOLDER
"""
import random
import struct
import sys
from pathlib import Path

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
CODES = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q", I64: "q", F64: "d"}
TYPES = {"F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18), "Q8_0": (8, 32, 34), "Q4_K": (12, 256, 144), "BF16": (30, 1, 2)}


def string(text):
    data = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(data)) + data


def scalar(kind, value):
    return string(value) if kind == STRING else struct.pack("<" + CODES[kind], value)


def pair(key, kind, value):
    """One metadata pair; an array where value is a list."""
    if isinstance(value, list):
        return string(key) + struct.pack("<IIQ", ARRAY, kind, len(value)) + b"".join(scalar(kind, v) for v in value)
    return string(key) + struct.pack("<I", kind) + scalar(kind, value)


def gguf(pairs, tensors=(), alignment=32, version=3):
    """tensors: (name, shape, type, data)."""
    infos, data = b"", b""
    for name, shape, kind, contents in tensors:
        infos += string(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
        infos += struct.pack("<IQ", TYPES[kind][0], len(data))
        data += contents + bytes(-len(contents) % alignment)
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(pairs)) + b"".join(pair(*p) for p in pairs) + infos
    return head + (bytes(-len(head) % alignment) + data if tensors else b"")


def floats(*values):
    return struct.pack(f"<{len(values)}f", *values)


def every_value():
    pairs = [(f"v.{kind}", kind, 1) for kind in CODES] + [("v.text", STRING, "text"), ("v.texts", STRING, ["a", "", "bc"])]
    return pairs + [(f"a.{kind}", kind, [1, 0, 1]) for kind in CODES] + [("a.none", F32, [])]


def vocabulary(model, tokens, **more):
    kinds = more.pop("kinds")
    pairs = [("tokenizer.ggml.model", STRING, model), ("tokenizer.ggml.tokens", STRING, tokens), ("tokenizer.ggml.token_type", I32, kinds)]
    return pairs + [("tokenizer.ggml." + key, *value) for key, value in more.items()]


def byte_alphabet():
    """The 256 characters that stand for bytes in a byte-level vocabulary (GPT-2)."""
    plain = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
    names, spare = {b: chr(b) for b in plain}, 256
    for b in range(256):
        if b not in names:
            names[b], spare = chr(spare), spare + 1
    return [names[b] for b in range(256)]


def spm():
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)] + list("▁abcdeht") + ["th", "▁th", "the", "▁the", "ab", "abc"]
    kinds = [2, 3, 3] + [6] * 256 + [1] * (len(tokens) - 259)
    return vocabulary("llama", tokens, kinds=kinds, scores=(F32, [0.0] * 259 + [-float(i) for i in range(len(tokens) - 259)]),
                      bos_token_id=(U32, 1), eos_token_id=(U32, 2), add_space_prefix=(BOOL, True))


def bpe(pre):
    tokens = byte_alphabet() + ["th", "the", "Ġt", "Ġth", "Ġthe", "12", "<|end|>"]
    kinds = [1] * (len(tokens) - 1) + [3]
    return vocabulary("gpt2", tokens, kinds=kinds, pre=(STRING, pre), merges=(STRING, ["t h", "th e", "Ġ t", "Ġt h", "Ġth e", "1 2"]),
                      bos_token_id=(U32, len(tokens) - 1), eos_token_id=(U32, len(tokens) - 1), add_bos_token=(BOOL, True))


TEXTS = ["the abc 123,456  \n\n\t I'm don't <|end|></s>", "ÄÖ日本語🙂\u0301\u200d▁", b"\xff\xfe\xc3(\x00\x80 \xed\xa0\x80"]


def legacy_imatrix(entries, dataset=b"text.txt"):
    out = struct.pack("<i", len(entries))
    for name, calls, values in entries:
        out += struct.pack("<i", len(name)) + name + struct.pack("<ii", calls, len(values)) + floats(*values)
    return out + struct.pack("<ii", 3, len(dataset)) + dataset


def seeds():
    random.seed(1)
    weights = floats(*(random.gauss(0, 1) for _ in range(512)))
    tensors = [("blk.0.attn_q.weight", (256, 2), "F32", weights), ("output_norm.weight", (4,), "F32", floats(1, 2, 3, 4)),
               ("token_embd.weight", (32, 3), "Q8_0", bytes(3 * 34))]
    yield "gguf", "values", gguf(every_value())
    yield "gguf", "tensors", gguf([("general.alignment", U32, 64)], tensors, alignment=64)
    yield "gguf", "version2", gguf([("general.name", STRING, "x")], version=2)

    llama = [("general.architecture", STRING, "llama"), ("llama.block_count", U32, 1), ("llama.attention.head_count", U32, 4),
             ("llama.attention.head_count_kv", U32, 2), ("llama.embedding_length", U32, 256)]
    for i in range(4):  # lengths differ, and with them the recipe
        yield "quantize_model", f"llama{i}", gguf(llama, tensors) + bytes(i)
    yield "quantize_model", "nan", gguf(llama, [("blk.0.ffn_down.weight", (256, 1), "F32", floats(*[float("nan")] * 256))])

    sums = [("blk.0.attn_q.weight.in_sum2", (4, 1), "F32", floats(1, 2, 3, 4)), ("blk.0.attn_q.weight.counts", (1, 1), "F32", floats(5)),
            ("blk.0.ffn_down_exps.weight.in_sum2", (2, 3), "F32", floats(1, 2, 3, 4, 0, 0)),
            ("blk.0.ffn_down_exps.weight.counts", (1, 3), "F32", floats(5, 1, 0))]
    yield "imatrix", "gguf", gguf([("general.type", STRING, "imatrix"), ("imatrix.datasets", STRING, ["a.txt"]),
                                   ("imatrix.chunk_count", U32, 3), ("imatrix.chunk_size", U32, 512)], sums)
    yield "imatrix", "legacy", legacy_imatrix([(b"blk.0.attn_q.weight", 2, [1, 2, 3, 4]), (b"output.weight", 1, [0, 5])])

    for i, text in enumerate(TEXTS):
        data = text if isinstance(text, bytes) else text.encode()
        yield "tokenizer", f"spm{i}", gguf(spm()) + data
        yield "tokenizer", f"bpe{i}", gguf(bpe(["gpt-2", "llama-bpe", "qwen2"][i])) + data

    for kind in range(13):
        yield "quantize", f"type{kind}", bytes([kind]) + weights[:1024]
        yield "quantize", f"weighted{kind}", bytes([128 + kind]) + floats(*(abs(random.gauss(0, 1)) for _ in range(256)))
    yield "quantize", "extreme", bytes([10]) + floats(*[3.4e38, -3.4e38, 1e-45, 0, 65504, 1e-7] * 43)
    yield "quantize", "inf", bytes([10]) + floats(*[float("inf")] * 256)
    yield "model", "empty", gguf(llama)


for target, name, data in seeds():
    path = Path(sys.argv[1]) / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
