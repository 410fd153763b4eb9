"""Trains the embedded model: a byte-level BPE tokenizer and a small llama on the documents of data.py.

  torchrun --nproc-per-node 2 train.py --work DIR     tokenizer and checkpoints go to DIR; then run export.py

The number of steps is fixed beforehand (no schedule depends on the clock), all seeds are fixed, and each
step draws its documents from its own generator, so a run resumed from a checkpoint sees the same data.
"""
import argparse
import pathlib
import random
import time

import torch
import torch.distributed
import torch.nn.functional as F
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

import data

BOS = "<|endoftext|>"
CONFIG = dict(vocab=1024, hidden=256, layers=4, heads=4, kv_heads=2, head_dim=64, ffn=512,
              eps=1e-5, rope_base=10000.0, train_length=512)
# The qwen2 pre-tokenizer: words take one leading symbol, every digit stands alone.
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def train_tokenizer(path, vocab=CONFIG["vocab"]):
    if path.exists():
        return Tokenizer.from_file(str(path))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    stream = data.documents(random.Random("tokenizer"))
    trainer = trainers.BpeTrainer(vocab_size=vocab, special_tokens=[BOS], min_frequency=2, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator((next(stream).plain()[0] for _ in range(20000)), trainer)
    assert tokenizer.get_vocab_size() == vocab
    tokenizer.save(str(path))
    return tokenizer


# ---------------------------------------------------------------- model

def rope_table(length, cfg):
    """cos and sin of shape length x head_dim/2."""
    inv = cfg["rope_base"] ** (-torch.arange(0, cfg["head_dim"], 2, dtype=torch.float32) / cfg["head_dim"])
    angle = torch.arange(length, dtype=torch.float32)[:, None] * inv[None, :]
    return angle.cos(), angle.sin()


def rope(x, cos, sin):
    """Rotates neighbouring pairs (2i, 2i+1), the convention of GGUF's llama architecture."""
    z = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
    return torch.view_as_real(z * torch.complex(cos, sin)).flatten(-2)


class Block(torch.nn.Module):
    def __init__(self, cfg):
        super().__init__()
        h, f, d, self.cfg = cfg["hidden"], cfg["ffn"], cfg["head_dim"], cfg
        linear = lambda n_in, n_out: torch.nn.Linear(n_in, n_out, bias=False)   # noqa: E731
        self.attn_norm, self.ffn_norm = (torch.nn.Parameter(torch.ones(h)) for _ in range(2))
        self.attn_q, self.attn_output = linear(h, cfg["heads"] * d), linear(cfg["heads"] * d, h)
        self.attn_k, self.attn_v = linear(h, cfg["kv_heads"] * d), linear(h, cfg["kv_heads"] * d)
        self.ffn_gate, self.ffn_up, self.ffn_down = linear(h, f), linear(h, f), linear(f, h)

    def forward(self, x, cos, sin, mask, cache=None):
        cfg, (b, t, h) = self.cfg, x.shape
        y = F.rms_norm(x, (h,), self.attn_norm, cfg["eps"])
        heads = lambda z, n: z.view(b, t, n, cfg["head_dim"]).transpose(1, 2)   # noqa: E731
        q = rope(heads(self.attn_q(y), cfg["heads"]), cos, sin)
        k = rope(heads(self.attn_k(y), cfg["kv_heads"]), cos, sin)
        v = heads(self.attn_v(y), cfg["kv_heads"])
        if cache is not None:
            if cache:
                k, v = torch.cat((cache[0], k), 2), torch.cat((cache[1], v), 2)
            cache[:] = [k, v]
        groups = cfg["heads"] // cfg["kv_heads"]
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        a = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None and t > 1)
        x = x + self.attn_output(a.transpose(1, 2).reshape(b, t, -1))
        y = F.rms_norm(x, (h,), self.ffn_norm, cfg["eps"])
        return x + self.ffn_down(F.silu(self.ffn_gate(y)) * self.ffn_up(y))


class Model(torch.nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        self.token_embd = torch.nn.Embedding(cfg["vocab"], cfg["hidden"])
        self.blk = torch.nn.ModuleList(Block(cfg) for _ in range(cfg["layers"]))
        self.output_norm = torch.nn.Parameter(torch.ones(cfg["hidden"]))
        for name, p in self.named_parameters():
            if p.dim() == 2:
                silent = "output" in name or "down" in name   # blocks begin as the identity
                torch.nn.init.normal_(p, std=0.05 if "embd" in name else 0.0 if silent else p.shape[1] ** -0.5)
        plant_circuits(self)

    def forward(self, tokens, position=None, mask=None, cache=None):
        """Logits of B x T tokens. position: B x T (default 0..T-1, or behind the cache)."""
        past = cache[0][0].shape[2] if cache and cache[0] else 0
        cos, sin = rope_table(past + tokens.shape[1] if position is None else self.cfg["train_length"], self.cfg)
        cos, sin = (t[past:] if position is None else t[position][:, None] for t in (cos, sin))
        x = self.token_embd(tokens)
        for i, block in enumerate(self.blk):
            x = block(x, cos, sin, mask, cache[i] if cache is not None else None)
        x = F.rms_norm(x, (x.shape[-1],), self.output_norm, self.cfg["eps"])
        return x @ self.token_embd.weight.T   # the embedding is also the output matrix


@torch.no_grad()
def plant_circuits(model):
    """Gives the first two layers the wiring of an induction head, which a run this short finds late or never.

    Layer 0: heads 0 and 1 look one and two tokens back and note what they saw in two subspaces of the residual.
    Layer 1: head 0 looks for a place whose previous token is the present one and copies what stood there;
             head 2 looks for an earlier occurrence of the present token and notes what stood two before it.
    Everything stays trainable. Nothing is needed but a direction that all embeddings share (harmless to the
    logits: the same amount for every token) and the principal directions of the embeddings."""
    cfg, d = model.cfg, model.cfg["head_dim"]
    first, second, e = model.blk[0], model.blk[1], model.token_embd.weight
    centre = e - e.mean(0)
    basis = torch.linalg.svd(centre, full_matrices=True)[2]           # rows, strongest first
    content = basis[:d].flip(0)                                       # strongest where RoPE turns slowest
    back1, back2, match, shared = basis[-d:], basis[-2 * d:-d], basis[-3 * d:-2 * d], basis[d]
    size = centre.norm(dim=1).mean()
    e.copy_(centre + size * shared)
    root = cfg["hidden"] ** 0.5
    unit = root / 2 ** 0.5                                            # of the shared part behind the norm
    at = lambda h: slice(h * d, (h + 1) * d)                          # noqa: E731
    u = torch.zeros(d)
    u[0:12:2] = 6 ** -0.5                                             # the six fastest pairs tell neighbours apart
    strength = (30 * d ** 0.5) ** 0.5 / unit
    for head, back in ((0, 1), (1, 2)):
        cos, sin = rope_table(back + 1, cfg)
        q = rope(u[None], cos[-1:], -sin[-1:])[0]                     # turned back by the distance to look
        first.attn_q.weight[at(head)] = strength * torch.outer(q, shared)
    first.attn_k.weight[at(0)] = strength * torch.outer(u, shared)
    first.attn_v.weight[at(0)] = content
    first.attn_output.weight[:, at(0)] = back1.T * size / unit
    first.attn_output.weight[:, at(1)] = back2.T * size / unit
    sharp = (10 * d ** 0.5 / (root ** 2 / 6)) ** 0.5
    second.attn_q.weight[at(0)] = 1.4 * sharp * content
    second.attn_k.weight[at(0)] = 1.4 * sharp * back1
    second.attn_v.weight[at(0)] = content
    second.attn_output.weight[:, at(0)] = content.T * size / unit
    second.attn_q.weight[at(2)] = sharp * content
    second.attn_k.weight[at(1)] = sharp * content
    u = torch.zeros(6)
    u[0::2] = 3 ** -0.5                                               # the three fastest pairs keep it from itself
    away = (5 * d ** 0.5) ** 0.5 / unit * torch.outer(u, shared)
    second.attn_q.weight[2 * d:2 * d + 6], second.attn_k.weight[d:d + 6] = -away, away
    second.attn_v.weight[at(1)] = back2
    second.attn_output.weight[:, at(2)] = match.T * size / unit


# ---------------------------------------------------------------- optimizer

class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalized (Newton-Schulz), for the hidden matrices."""

    def __init__(self, params, lr, momentum=0.95, decay=0.1):
        super().__init__(params, dict(lr=lr, momentum=momentum, decay=decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            by_shape = {}
            for p in group["params"]:
                m = self.state[p].setdefault("momentum", torch.zeros_like(p))
                m.lerp_(p.grad, 1 - group["momentum"])
                by_shape.setdefault(tuple(p.shape), []).append((p, p.grad.lerp(m, group["momentum"])))
            for (rows, cols), pairs in by_shape.items():
                u = torch.stack([g if rows <= cols else g.T for _, g in pairs])
                u = u / (u.norm(dim=(1, 2), keepdim=True) + 1e-7)
                share = torch.tensor_split(u, torch.distributed.get_world_size())[torch.distributed.get_rank()]
                mine = share.clone()
                for _ in range(5):   # quintic that drives all singular values towards 1
                    a = mine @ mine.mT
                    mine = 3.4445 * mine + (-4.7750 * a + 2.0315 * a @ a) @ mine
                u.zero_()
                share.copy_(mine)    # each process did its share of the matrices; the sum puts them together
                torch.distributed.all_reduce(u)
                for (p, _), d in zip(pairs, u):
                    p.mul_(1 - group["lr"] * group["decay"])
                    p.add_(d if rows <= cols else d.T, alpha=-group["lr"] * max(1.0, rows / cols) ** 0.5)


# ---------------------------------------------------------------- batches

def weighted_tokens(encoding, spans):
    """Token ids, and for each id the loss weight of predicting it."""
    weights, spans, i = [], sorted(spans), 0
    for start, end in encoding.offsets:
        while i < len(spans) and spans[i][1] <= start:
            i += 1
        weights.append(1.0 if i < len(spans) and end > spans[i][0] else data.PROMPT_WEIGHT)
    return encoding.ids, weights


def encode_documents(tokenizer, docs):
    """BOS, prompt, completion, BOS of every document; prompt and completion are tokenized apart as in use."""
    prompts = tokenizer.encode_batch([d.prompt for d in docs])
    completions = tokenizer.encode_batch([d.completion for d in docs])
    for doc, p, c in zip(docs, prompts, completions):
        ids, weights = weighted_tokens(p, doc.spans)
        worth = [1.0] * len(c.ids)
        if doc.completion[-1:] in (".", "]"):   # may be followed by another example, so it is not certain
            worth[-1] = data.PROMPT_WEIGHT
        yield [0] + ids + c.ids + [0], [0.0] + weights + worth + [data.PROMPT_WEIGHT]


def make_batch(tokenizer, rng, lesson, rows, text_rows, length=CONFIG["train_length"]):
    """tokens, targets, weights, positions and the mask that keeps packed documents apart.

    Text rows are windows of running text: documents joined by blank lines behind a single BOS,
    which is what a perplexity window looks like."""
    stream = data.documents(rng, lesson=lesson)
    packed = [[] for _ in range(rows - text_rows)]
    docs, failures = [], 0
    while failures < 6:
        if not docs:
            docs = list(encode_documents(tokenizer, [next(stream) for _ in range(6)]))
        ids, weights = docs.pop()
        room = [r for r in packed if sum(len(d[0]) - 1 for d in r) + len(ids) - 1 <= length]
        failures = 0 if room else failures + 1
        if room:
            room[0].append((ids, weights))
    while len(packed) < rows:
        text, spans = "", []
        for _ in range(14):
            part, inner = next(stream).plain()
            spans += [(a + len(text), b + len(text)) for a, b in inner]
            text += part + "\n\n"
        ids, weights = weighted_tokens(tokenizer.encode(text), spans)
        at = rng.randrange(len(ids) - length)
        packed.append([([0] + ids[at:at + length], [0.0] + weights[at:at + length])])
    shape = (rows, length)
    tokens, targets, position, owner = (torch.zeros(shape, dtype=torch.long) for _ in range(4))
    loss_weight = torch.zeros(shape)
    for r, row in enumerate(packed):
        at = 0
        for n, (ids, weights) in enumerate(row):
            end = at + len(ids) - 1
            tokens[r, at:end], targets[r, at:end] = torch.tensor(ids[:-1]), torch.tensor(ids[1:])
            loss_weight[r, at:end] = torch.tensor(weights[1:])
            position[r, at:end], owner[r, at:end] = torch.arange(end - at), n + 1
            at = end
    mask = (owner[:, None, :, None] == owner[:, None, None, :]) & torch.ones(length, length, dtype=torch.bool).tril()
    return tokens, targets, loss_weight, position, mask


def quick_sets(count):
    """Held-out documents for the log line; greedy decoding gives the completion exactly when argmax does."""
    rng = random.Random("quick")
    return {"facts": [data.fact_document(rng, True, 0) for _ in range(count)],
            "code O": [data.code_document(rng, True, 2, "o", False) for _ in range(count)],
            "code I": [data.code_document(rng, True, 2, "i", False) for _ in range(count)],
            "stories": [data.story_document(rng, True, plain=False, short=True) for _ in range(count)]}


@torch.no_grad()
def quick_accuracy(model, tokenizer, docs):
    """Share of documents whose completion is what greedy decoding would write.

    The last token of facts and code is not compared: it depends on whether another example follows."""
    encoded = []
    for doc in docs:
        ids, n = next(encode_documents(tokenizer, [doc]))[0], len(tokenizer.encode(doc.completion).ids)
        encoded.append((ids, len(ids) - 1 - n, len(ids) - 1 - (doc.completion[-1] in ".]")))
    encoded.sort(key=lambda e: len(e[0]))
    right = 0
    for i in range(0, len(encoded), 16):
        part = encoded[i:i + 16]
        width = max(len(ids) for ids, _, _ in part)
        best = model(torch.tensor([ids + [0] * (width - len(ids)) for ids, _, _ in part])).argmax(-1)
        right += sum(row[a - 1:b - 1].tolist() == ids[a:b] for row, (ids, a, b) in zip(best, part))
    return right / len(docs)


LESSONS_FROM = (1400, 2800, 3900, 5000)   # first steps of lessons 2 to 5
# Steps and the share of the full learning rate there, linear in between; lesson 4 starts afresh.
RATES = ((-1, 0.0), (59, 1.0), (2040, 1.0), (2800, 600 / 1360), (3900, 0.0), (3920, 0.6), (5200, 0.6), (6600, 0.0))


def learning_rate(step):
    for (a, low), (b, high) in zip(RATES, RATES[1:]):
        if step < b:
            return low + (high - low) * (step - a) / (b - a)
    return 0.0


def train(args):
    """The loop of one process; all processes are equal, with one thread and an equal share of the rows each."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    rank, processes = torch.distributed.get_rank(), torch.distributed.get_world_size()
    if rank == 0:
        train_tokenizer(args.work / "tokenizer.json")
    torch.distributed.barrier()
    torch.manual_seed(1)
    tokenizer, model = Tokenizer.from_file(str(args.work / "tokenizer.json")), Model(CONFIG)
    params = list(model.parameters())
    hidden = [p for n, p in model.named_parameters() if p.dim() == 2 and "embd" not in n]
    others = [p for n, p in model.named_parameters() if p.dim() == 1 or "embd" in n]
    optimizers = [Muon(hidden, lr=args.lr),
                  torch.optim.AdamW(others, lr=args.adam_lr, betas=(0.9, 0.98), weight_decay=0.0)]
    groups = [g for o in optimizers for g in o.param_groups]
    rates = [g["lr"] for g in groups]
    checkpoint, start, spent = args.work / "checkpoint.pt", 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        model.load_state_dict(state["model"])
        for o, s in zip(optimizers, state["optimizers"]):
            o.load_state_dict(s)
        start, spent = state["step"], state["seconds"]
    sets, began, total, seen = quick_sets(64), time.time() - spent, 0.0, 0
    say = lambda *text: rank == 0 and print(*text, flush=True)   # noqa: E731
    say(f"parameters {sum(p.numel() for p in params)}, from step {start} of {args.steps}")
    for step in range(start, args.steps):
        lesson = 1 + sum(step >= at for at in LESSONS_FROM)
        tokens, targets, weight, position, mask = make_batch(
            tokenizer, random.Random(f"batch {step} {rank}"), lesson,
            args.rows // processes, int((step + rank) % 4 == 0))
        loss = F.cross_entropy(model(tokens, position, mask).flatten(0, 1), targets.flatten(), reduction="none")
        loss = (loss * weight.flatten()).sum()
        loss.backward()
        # One exchange a step: all gradients, the loss and the weight it is the sum of.
        flat = torch.cat([p.grad.flatten() for p in params] + [torch.stack((loss.detach(), weight.sum()))])
        torch.distributed.all_reduce(flat)
        flat /= flat[-1].clone()
        for p, g in zip(params, flat[:-2].split([p.numel() for p in params])):
            p.grad = g.view_as(p)
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        scale = learning_rate(step)
        for group, rate in zip(groups, rates):
            group["lr"] = rate * scale
        for o in optimizers:
            o.step()
            o.zero_grad(set_to_none=True)
        total, seen = total + flat[-2].item(), seen + 1
        if (step + 1) % 25 == 0:
            say(f"step {step + 1} loss {total / seen:.4f} seconds {time.time() - began:.0f}")
            total = seen = 0
        if (step + 1) % args.eval_every == 0 or step + 1 == args.steps:
            mine = torch.tensor([quick_accuracy(model, tokenizer, s[rank::processes]) for s in sets.values()])
            torch.distributed.all_reduce(mine)
            say(f"step {step + 1} held out", {k: round(v / processes, 3) for k, v in zip(sets, mine.tolist())})
            if rank == 0:
                torch.save(dict(model=model.state_dict(), optimizers=[o.state_dict() for o in optimizers],
                                step=step + 1, seconds=time.time() - began), checkpoint)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=RATES[-1][0], help="fewer only to try things out")
    parser.add_argument("--rows", type=int, default=4, help="windows of 512 tokens a step, over all processes")
    parser.add_argument("--lr", type=float, default=0.006)
    parser.add_argument("--adam-lr", type=float, default=0.002)
    parser.add_argument("--eval-every", type=int, default=250)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    train(args)


if __name__ == "__main__":
    main()
