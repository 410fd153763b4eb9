"""Writes the trained model as GGUF, its evaluation sets and texts, and measures what was written.

  python export.py --work DIR --out FOLDER            everything
  python export.py --work DIR --gguf FILE             only the GGUF

Accuracies are measured by greedy decoding with the F16-rounded weights and the rules of the public benchmarks.
"""
import argparse
import ast
import json
import math
import pathlib
import random
import re

import gguf
import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

import data
from train import BOS, CONFIG, Model

MATRICES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")


def load(work):
    """The trained model with its matrices rounded to F16, as the file holds them."""
    model = Model(CONFIG)
    model.load_state_dict(torch.load(work / "checkpoint.pt")["model"])
    for p in model.parameters():
        if p.dim() == 2:
            p.data = p.data.half().float()
    return model.eval(), Tokenizer.from_file(str(work / "tokenizer.json"))


def write_gguf(model, tokenizer, path):
    cfg, w = CONFIG, gguf.GGUFWriter(str(path), "llama")
    w.add_name("kquant embedded")
    w.add_description("Small llama trained on synthetic facts, code and stories, in windows of "
                      f"{cfg['train_length']} tokens")
    w.add_license("MIT")
    w.add_context_length(1024)
    w.add_embedding_length(cfg["hidden"])
    w.add_block_count(cfg["layers"])
    w.add_feed_forward_length(cfg["ffn"])
    w.add_head_count(cfg["heads"])
    w.add_head_count_kv(cfg["kv_heads"])
    w.add_layer_norm_rms_eps(cfg["eps"])
    w.add_rope_dimension_count(cfg["head_dim"])
    w.add_rope_freq_base(cfg["rope_base"])
    w.add_vocab_size(cfg["vocab"])
    w.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    w.add_uint32("kquant.train_length", cfg["train_length"])
    spec = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(spec["vocab"], key=spec["vocab"].get)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("qwen2")
    w.add_token_list(tokens)
    w.add_token_types([gguf.TokenType.CONTROL if t == BOS else gguf.TokenType.NORMAL for t in tokens])
    w.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in spec["merges"]])
    w.add_bos_token_id(0)
    w.add_eos_token_id(0)
    w.add_pad_token_id(0)
    w.add_add_bos_token(True)
    f16 = lambda p: p.detach().numpy().astype(np.float16)   # noqa: E731
    f32 = lambda p: p.detach().numpy().astype(np.float32)   # noqa: E731
    w.add_tensor("token_embd.weight", f16(model.token_embd.weight))
    for i, block in enumerate(model.blk):
        w.add_tensor(f"blk.{i}.attn_norm.weight", f32(block.attn_norm))
        w.add_tensor(f"blk.{i}.ffn_norm.weight", f32(block.ffn_norm))
        for name in MATRICES:
            w.add_tensor(f"blk.{i}.{name}.weight", f16(getattr(block, name).weight))
    w.add_tensor("output_norm.weight", f32(model.output_norm))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


# ---------------------------------------------------------------- check of the file, without torch's model

def forward_from_gguf(path, ids):
    """Logits (T x vocab) of a plain numpy forward pass that reads nothing but the GGUF file."""
    reader = gguf.GGUFReader(str(path))
    field = lambda key: reader.fields[key].parts[reader.fields[key].data[0]][0]   # noqa: E731
    t = {x.name: x.data.astype(np.float32) for x in reader.tensors}
    heads, kv = int(field("llama.attention.head_count")), int(field("llama.attention.head_count_kv"))
    eps, base = float(field("llama.attention.layer_norm_rms_epsilon")), float(field("llama.rope.freq_base"))
    d, n = int(field("llama.rope.dimension_count")), len(ids)
    norm = lambda x, g: x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * g   # noqa: E731
    angle = np.arange(n)[:, None] * base ** (-np.arange(0, d, 2) / d)[None, :]
    turn = np.exp(1j * angle)

    def rotate(x):   # T x heads x d, neighbouring pairs as complex numbers
        z = (x[..., 0::2] + 1j * x[..., 1::2]) * turn[:, None, :]
        return np.stack((z.real, z.imag), -1).reshape(x.shape)

    x = t["token_embd.weight"][ids]
    for i in range(int(field("llama.block_count"))):
        m = lambda name: t[f"blk.{i}.{name}.weight"]   # noqa: E731, B023
        y = norm(x, m("attn_norm"))
        q = rotate((y @ m("attn_q").T).reshape(n, heads, d))
        k = rotate((y @ m("attn_k").T).reshape(n, kv, d))
        v = (y @ m("attn_v").T).reshape(n, kv, d)
        out = np.zeros((n, heads, d), np.float32)
        for h in range(heads):
            s = q[:, h] @ k[:, h * kv // heads].T / math.sqrt(d)
            s = np.where(np.tril(np.ones((n, n), bool)), s, -np.inf)
            s = np.exp(s - s.max(-1, keepdims=True))
            out[:, h] = s / s.sum(-1, keepdims=True) @ v[:, h * kv // heads]
        x = x + out.reshape(n, -1) @ m("attn_output").T
        y = norm(x, m("ffn_norm"))
        gate = y @ m("ffn_gate").T
        x = x + (gate / (1 + np.exp(-gate)) * (y @ m("ffn_up").T)) @ m("ffn_down").T
    return norm(x, t["output_norm.weight"]) @ t["token_embd.weight"].T


# ---------------------------------------------------------------- evaluation

@torch.no_grad()
def generate(model, tokenizer, prompt, stop, expected, limit=96):
    """Greedy completion of one prompt behind BOS, cut before the stop string or at EOS.

    The expected completion is tried first: where every token of it is the most likely one, a single pass
    proves that greedy decoding writes it, and nothing needs to be decoded."""
    feed, guess = [0] + tokenizer.encode(prompt).ids, tokenizer.encode(expected).ids
    best = model(torch.tensor([feed + guess]))[0, len(feed) - 1:-1].argmax(-1)
    if best.tolist() == guess:
        return expected.split(stop)[0]
    cache, new = [[] for _ in model.blk], []
    for _ in range(limit):
        token = int(model(torch.tensor([feed]), cache=cache)[0, -1].argmax())
        if token == 0:
            break
        new.append(token)
        feed = [token]
        if stop in tokenizer.decode(new[-8:]):
            break
    return tokenizer.decode(new).split(stop)[0]


def call(code, arguments):
    """What the program makes of literal arguments; generated text is never executed, only parsed."""
    scope = {}
    exec(code, scope)   # only programs from data.py
    return scope["f"](*ast.literal_eval(f"({arguments},)"))


def crux_right(task, item, text):
    try:
        if task == "o":
            return ast.literal_eval(text.split("==", 1)[-1].strip()) == ast.literal_eval(item["output"])
        arguments = re.search(r"f\((.*)\)\s*==", text).group(1)
        return call(item["code"], arguments) == ast.literal_eval(item["output"])
    except Exception:   # whatever a wrong answer may raise, it is wrong
        return False


def mmlu_prompt(item, shots=()):
    text = data.MMLU_HEAD.format(item["category"]) + "\n\n"
    for s in shots:
        text += data.mmlu_question(s["question"], s["options"])
        text += s["cot_content"].removeprefix("A: Let's think step by step.") + "\n\n"
    return text + data.mmlu_question(item["question"], item["options"])


def evaluate(model, tokenizer, sets, taught, limit=None):
    """Accuracies by name; every decision is made on greedily decoded text."""
    rng, result = random.Random("shots"), {}

    def facts(i, n):
        item = sets["mmlu_pro"][i]
        shots = [s for s in sets["mmlu_pro_validation"] if s["category"] == item["category"]][:n]
        text = generate(model, tokenizer, mmlu_prompt(item, shots), "Question:", taught["mmlu_pro"][i][:-2])
        found = re.search(r"answer is \(?([A-J])\)?", text)
        return bool(found) and found.group(1) == item["answer"]

    def code(i, task, n):
        item, shots = sets["cruxeval"][i], []
        for _ in range(n):
            s_code, given, output, answer = data.code_item(rng, sums=False)
            shots.append((s_code, given if task == "o" else answer, output))
        given = item["input"] if task == "o" else item["output"]
        expected = f"assert f({item['input']}) == {item['output']}\n[/ANSWER"
        prompt = data.crux_prompt(task, item["code"], given, shots).prompt
        return crux_right(task, item, generate(model, tokenizer, prompt, "[/ANSWER", expected))

    def stories(i, head):
        item = sets["musr"][i]
        prompt = head + data.musr_prompt(item["context"], item["question"], item["choices"]) + "\n\n"
        text = generate(model, tokenizer, prompt, "\n\n", taught["musr"][i])
        found = re.findall(r"answer:[^0-9\n]*(\d)", text.lower())
        return bool(found) and int(found[-1]) == item["answer"] + 1

    runs = {"MMLU-Pro shape, 0-shot": ("mmlu_pro", lambda i: facts(i, 0)),
            "MMLU-Pro shape, 3-shot": ("mmlu_pro", lambda i: facts(i, 3)),
            "CRUXEval-O shape, 0-shot": ("cruxeval", lambda i: code(i, "o", 0)),
            "CRUXEval-O shape, 2-shot": ("cruxeval", lambda i: code(i, "o", 2)),
            "CRUXEval-I shape, 0-shot": ("cruxeval", lambda i: code(i, "i", 0)),
            "CRUXEval-I shape, 2-shot": ("cruxeval", lambda i: code(i, "i", 2)),
            "MuSR shape, regular prompt": ("musr", lambda i: stories(i, "")),
            "MuSR shape, system text first": ("musr", lambda i: stories(i, data.MUSR_SYSTEM + "\n\n"))}
    for name, (key, right) in runs.items():
        count = min(limit or len(sets[key]), len(sets[key]))
        result[name] = sum(right(i) for i in range(count)) / count
        print(f"{name}: {100 * result[name]:.1f} % of {count}", flush=True)
    return result


@torch.no_grad()
def perplexity(model, tokenizer, text, window=512):
    """BOS and the next window-1 tokens; only the second half is scored."""
    ids, losses = tokenizer.encode(text).ids, []
    for i in range(len(ids) // window):
        row = torch.tensor([[0] + ids[i * window + 1:(i + 1) * window]])
        losses.append(F.cross_entropy(model(row)[0, window // 2:-1], row[0, window // 2 + 1:], reduction="none"))
    return math.exp(torch.cat(losses).mean()), len(losses)


def write_text(path, seed, test, characters):
    stream, parts = data.documents(random.Random(seed), test), []
    while sum(map(len, parts)) < characters:
        parts.append(next(stream).plain()[0])
    path.write_text("\n\n".join(parts) + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--gguf", type=pathlib.Path)
    parser.add_argument("--limit", type=int)
    args = parser.parse_args()
    torch.set_num_threads(2)
    model, tokenizer = load(args.work)
    path = args.gguf or args.out / "embedded.gguf"
    write_gguf(model, tokenizer, path)
    prompt = "The mayor of"
    ids = [0] + tokenizer.encode(prompt).ids
    with torch.no_grad():
        ours = model(torch.tensor([ids]))[0].numpy()
    print("largest difference to the pass over the file:", np.abs(ours - forward_from_gguf(path, ids)).max())
    if args.out:
        (args.out / "eval").mkdir(exist_ok=True)
        sets, taught = data.eval_sets(300)
        for name, items in sets.items():
            (args.out / "eval" / f"{name}.jsonl").write_text("".join(json.dumps(i) + "\n" for i in items))
        write_text(args.out / "text_test.txt", "text test", True, 240_000)
        write_text(args.out / "text_calibration.txt", "text calibration", False, 240_000)
        (args.out / "expected_logits.json").write_text(json.dumps(
            {"prompt": prompt, "tokens": ids, "logits": [round(float(v), 5) for v in ours[-1]]}) + "\n")
        print("perplexity, windows:", perplexity(model, tokenizer, (args.out / "text_test.txt").read_text()))
        evaluate(model, tokenizer, sets, taught, args.limit)


if __name__ == "__main__":
    main()
