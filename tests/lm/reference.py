"""The model written out in the plainest way, for one lane: a loop over sequences, heads, tokens and experts.

It shares no code with the package and is slow. Weights are a lane's, by the package's names; tokens are (B, T).
"""

import math

import torch
import torch.nn.functional as F

ACTIVATIONS = {"silu": lambda x: x * x.sigmoid(), "gelu": F.gelu, "relu-squared": lambda x: x.clamp(min=0) ** 2}


def forward(recipe, weights, tokens):
    """The last hidden states (B, T, D), the balance loss, the z-loss (None without experts) and loads [L][E]."""
    model = recipe.model
    x = [[weights["embedding"][token] * model.width**0.5 for token in sequence] for sequence in tokens]
    balances, zs, loads = [], [], []
    for layer in range(model.num_layers):
        w = {name: value[layer] for name, value in weights.items() if name not in ("embedding", "head", "norm.final")}
        for b, sequence in enumerate(x):
            normed = [_norm(token, w["norm.attention"]) for token in sequence]
            attended = _attention(model, w, normed, tokens[b])
            x[b] = [token + more for token, more in zip(sequence, attended, strict=True)]
        normed = [_norm(token, w["norm.feed_forward"]) for sequence in x for token in sequence]
        if model.feed_forward.kind in ("mlp", "swiglu"):
            outputs = [_dense(model.feed_forward, w, token) for token in normed]
        else:
            outputs, balance, z, load = _experts(model.feed_forward, w, normed)
            balances.append(balance)
            zs.append(z)
            loads.append(load)
        turn = iter(outputs)
        x = [[token + next(turn) for token in sequence] for sequence in x]
    hidden = torch.stack([torch.stack([_norm(token, weights["norm.final"]) for token in sequence]) for sequence in x])
    has_losses = model.feed_forward.kind == "moe"
    return hidden, sum(balances) if has_losses else None, sum(zs) if has_losses else None, loads


def loss(weights, hidden, targets):
    """The summed cross-entropy in nats."""
    head = weights.get("head", weights["embedding"])
    return -sum((head @ x).log_softmax(-1)[y] for x, y in zip(hidden.flatten(0, 1), targets.flatten(), strict=True))


def _norm(x, gain):
    return x / (x.square().mean() + torch.finfo(x.dtype).eps).sqrt() * gain


def _rotate(x, position, base):
    half = len(x) // 2
    angle = position * base ** (-torch.arange(half, dtype=torch.float64) / half)
    turned = torch.complex(x[:half], x[half:]) * torch.complex(
        angle.cos().float().double(), angle.sin().float().double()
    )
    return torch.cat((turned.real, turned.imag))


def _attention(model, w, xs, tokens):
    heads = _latent_heads if model.attention.kind == "latent" else _fused_heads
    queries, keys, values = zip(*(heads(model, w, x, position) for position, x in enumerate(xs)), strict=True)
    outputs = []
    for i in range(len(xs)):
        visible = [j for j in range(i + 1) if not (model.document_mask and any(token == 0 for token in tokens[j:i]))]
        out = []
        for head in range(model.num_heads):
            q = queries[i][head]
            scores = torch.stack([q @ keys[j][head] for j in visible]) / math.sqrt(len(q))
            out.append(sum(share * values[j][head] for share, j in zip(scores.softmax(0), visible, strict=True)))
        outputs.append(w["attention.out"] @ torch.cat(out) + w.get("bias.attention_out", 0))
    return outputs


def _fused_heads(model, w, x, position):
    kind, size = model.attention, model.width // model.num_heads
    kv_heads = kind.num_kv_heads if kind.kind == "grouped-query" else model.num_heads
    pieces = (w["attention.qkv"] @ x).split(size)
    queries, keys = pieces[: model.num_heads], pieces[model.num_heads : model.num_heads + kv_heads]
    values = pieces[model.num_heads + kv_heads :]
    if kind.query_key_norm:
        queries, keys = [_norm(q, w["norm.query"]) for q in queries], [_norm(k, w["norm.key"]) for k in keys]
    queries, keys = ([_rotate(y, position, kind.rotary_base) for y in ys] for ys in (queries, keys))
    group = [head * kv_heads // model.num_heads for head in range(model.num_heads)]
    return queries, [keys[g] for g in group], [values[g] for g in group]


def _latent_heads(model, w, x, position):
    kind = model.attention
    latent = x
    if kind.query_rank:
        latent = _norm(w["attention.query_down"] @ x + w.get("bias.query_down", 0), w["norm.query_latent"])
    down = w["attention.key_value_down"] @ x + w.get("bias.key_value_down", 0)
    rope_key = _rotate(down[kind.key_value_rank :], position, kind.rotary_base)
    made = w["attention.key_value_up"] @ _norm(down[: kind.key_value_rank], w["norm.key_value_latent"])
    queries, keys, values = [], [], []
    for q in (w["attention.query_up"] @ latent).split(kind.plain_size + kind.rope_size):
        turned = _rotate(q[kind.plain_size :], position, kind.rotary_base)
        queries.append(torch.cat((q[: kind.plain_size], turned)))
    for kv in made.split(kind.plain_size + kind.value_size):
        keys.append(torch.cat((kv[: kind.plain_size], rope_key)))
        values.append(kv[kind.plain_size :])
    return queries, keys, values


def _dense(kind, w, x):
    if kind.kind == "swiglu":
        return w["mlp.out"] @ (ACTIVATIONS["silu"](w["mlp.gate"] @ x) * (w["mlp.in"] @ x))
    return w["mlp.out"] @ ACTIVATIONS[kind.activation](w["mlp.in"] @ x)


def _experts(kind, w, xs):
    def expert(name, index, x):
        h = w[f"{name}.in"][index] @ x
        act = ACTIVATIONS[kind.activation]
        h = act(w[f"{name}.gate"][index] @ x) * h if kind.gated else act(h)
        return w[f"{name}.out"][index] @ h

    load, probabilities, zs, outputs = [0] * kind.num_experts, [], [], []
    for x in xs:
        logits = w["router"] @ x
        probability = logits.exp() / logits.exp().sum()
        if kind.kind == "moe-bias-balanced":
            score = 1 / (1 + (-logits).exp())
            chosen = (score + w["state.router_bias"]).topk(kind.top_k).indices
            shares = score[chosen] / score[chosen].sum()
        else:
            chosen = logits.topk(kind.top_k).indices
            shares = probability[chosen]
            if kind.router == "softmax-after":
                shares = shares / shares.sum()
        y = sum(share * expert("expert", index, x) for share, index in zip(shares, chosen, strict=True))
        outputs.append(y + sum(expert("shared", index, x) for index in range(kind.num_shared_experts)))
        for index in chosen:
            load[index] += 1
        probabilities.append(probability)
        zs.append(logits.exp().sum().log() ** 2)
    mean_probability = torch.stack(probabilities).mean(0)
    fractions = [count / (len(xs) * kind.top_k) for count in load]
    balance = kind.num_experts * sum(f * p for f, p in zip(fractions, mean_probability, strict=True))
    return outputs, balance, sum(zs) / len(xs), load
