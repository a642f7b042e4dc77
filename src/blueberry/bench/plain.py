"""A plain trainer of a mixture of experts, written as public code for small models is: what speed is compared with.

A module for each expert, masks instead of sorting, logits held whole, Muon matrix by matrix with the usual
Newton-Schulz iteration, torch's AdamW for the rest. It shares no code with `blueberry.lm`, and from the same weights
it takes the same updates, so it checks the numbers too. One run at a time.

Shapes: B sequences, T tokens of a sequence, D width.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blueberry.architecture import MixtureOfExperts
from blueberry.recipe import Recipe
from blueberry.schedules import multipliers
from blueberry.settings import MuonAdamWOptimizer


class PlainTrainer:
    """One run of a recipe with multi-head attention, softmax-after experts and Muon beside AdamW."""

    def __init__(self, recipe: Recipe, weights: dict[str, Tensor], *, is_bf16: bool = False) -> None:
        """`weights` are one lane's first values, by the names of `blueberry.architecture`; they are copied to a
        model on their device."""
        kind, optimizer = recipe.model.feed_forward, recipe.optimizer
        assert isinstance(kind, MixtureOfExperts)
        assert isinstance(optimizer, MuonAdamWOptimizer)
        self.recipe, self.is_bf16, self.update = recipe, is_bf16, 0
        self.balance_weight, self.clip_norm = kind.balance_weight, recipe.train.clip_norm
        self.device = weights["embedding"].device
        self.model = _Model(recipe, kind).to(self.device)
        _copy(self.model, weights)
        matrices = [p for name, p in self.model.named_parameters() if p.ndim == 2 and "embedding" not in name]
        tables = [self.model.embedding.weight]
        gains = [p for p in self.model.parameters() if p.ndim == 1]
        muon, adamw = optimizer.muon, optimizer.adamw
        rate = muon.learning_rate
        self.muon = _Muon(matrices, rate, muon.momentum, muon.num_iterations)
        gains_decay = adamw.weight_decay if adamw.decay_norms else 0.0
        self.adamw = torch.optim.AdamW(
            [{"params": tables}, {"params": gains, "weight_decay": gains_decay}],
            lr=rate * adamw.learning_rate_ratio,
            betas=(adamw.beta1, adamw.beta2),
            eps=adamw.epsilon,
            weight_decay=adamw.weight_decay,
        )
        heights = multipliers(recipe.schedule, recipe.num_updates)
        self.schedules = [
            torch.optim.lr_scheduler.LambdaLR(one, lambda update: heights[min(update, len(heights) - 1)])
            for one in (self.muon, self.adamw)
        ]

    def step(self, tokens_BT1: Tensor) -> tuple[float, float]:
        """One update; the mean loss in nats and the gradients' norm before it was clipped."""
        self.model.train()
        size, micro = len(tokens_BT1), self.recipe.micro_batch_sequences
        total = 0.0
        for part in tokens_BT1.to(self.device).split(micro):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.is_bf16):
                logits, balance = self.model(part[:, :-1])
                loss = F.cross_entropy(logits.flatten(0, 1).float(), part[:, 1:].flatten())
            ((loss + self.balance_weight * balance) * (micro / size)).backward()
            total += loss.item() * micro / size
        limit = self.clip_norm or float("inf")
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), limit).item()
        for optimizer, schedule in zip((self.muon, self.adamw), self.schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        self.update += 1
        return total, norm


class _Norm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), x.shape[-1:], self.weight).to(x.dtype)


class _Attention(nn.Module):
    cos: Tensor
    sin: Tensor

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        model = recipe.model
        self.num_heads, self.dropout = model.num_heads, model.dropout
        self.qkv = nn.Linear(model.width, 3 * model.width, bias=False)
        self.out = nn.Linear(model.width, model.width, bias=False)
        size = model.width // model.num_heads
        frequency = model.attention.rotary_base ** (-torch.arange(0, size, 2) / size)
        angle = torch.arange(model.context_tokens)[:, None] * frequency
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())

    def forward(self, x: Tensor) -> Tensor:
        num_sequences, num_positions, width = x.shape
        qkv = self.qkv(x).view(num_sequences, num_positions, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        query, key = self._rotated(qkv[0]), self._rotated(qkv[1])
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(query, key, qkv[2], dropout_p=dropout, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(num_sequences, num_positions, width))

    def _rotated(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, -1)
        return torch.cat((first * self.cos - second * self.sin, second * self.cos + first * self.sin), -1).to(x.dtype)


class _Expert(nn.Module):
    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, hidden, bias=False), nn.Linear(hidden, width, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.dropout(F.silu(self.up(x))))


class _Mixture(nn.Module):
    def __init__(self, recipe: Recipe, kind: MixtureOfExperts) -> None:
        super().__init__()
        width = recipe.model.width
        self.top_k, self.noise = kind.top_k, kind.router_noise
        self.gate = nn.Linear(width, kind.num_experts, bias=False)
        self.experts = nn.ModuleList(_Expert(width, kind.hidden, recipe.model.dropout) for _ in range(kind.num_experts))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        flat = x.flatten(0, 1)
        logits = self.gate(flat).float()
        if self.training and self.noise:
            logits = logits + self.noise * torch.randn_like(logits)
        best, index = logits.topk(self.top_k, -1)
        weight = best.softmax(-1)
        out, fractions = torch.zeros_like(flat), []
        for number, expert in enumerate(self.experts):
            is_chosen = index == number
            mask = is_chosen.any(-1)
            fractions.append(is_chosen.sum() / index.numel())
            if mask.any():
                share = (weight * is_chosen).sum(-1)[mask]
                out[mask] += (expert(flat[mask]) * share[:, None]).to(out.dtype)
        balance = len(self.experts) * (torch.stack(fractions) * logits.softmax(-1).mean(0)).sum()
        return out.view_as(x), balance


class _Block(nn.Module):
    def __init__(self, recipe: Recipe, kind: MixtureOfExperts) -> None:
        super().__init__()
        self.attention_norm, self.mixture_norm = _Norm(recipe.model.width), _Norm(recipe.model.width)
        self.attention, self.mixture = _Attention(recipe), _Mixture(recipe, kind)
        self.dropout = nn.Dropout(recipe.model.dropout)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x + self.dropout(self.attention(self.attention_norm(x)))
        y, balance = self.mixture(self.mixture_norm(x))
        return x + self.dropout(y), balance


class _Model(nn.Module):
    def __init__(self, recipe: Recipe, kind: MixtureOfExperts) -> None:
        super().__init__()
        model = recipe.model
        self.embedding = nn.Embedding(recipe.data.vocabulary_tokens, model.width)
        self.blocks = nn.ModuleList(_Block(recipe, kind) for _ in range(model.num_layers))
        self.norm, self.dropout = _Norm(model.width), nn.Dropout(model.dropout)

    def forward(self, tokens_BT: Tensor) -> tuple[Tensor, Tensor]:
        x = self.dropout(self.embedding(tokens_BT) * math.sqrt(self.embedding.embedding_dim))
        balances = []
        for block in self.blocks:
            x, balance = block(x)
            balances.append(balance)
        return F.linear(self.dropout(self.norm(x)), self.embedding.weight), torch.stack(balances).sum()


class _Muon(torch.optim.Optimizer):
    """Source: Jordan et al. 2024."""

    def __init__(self, parameters: list[nn.Parameter], rate: float, momentum: float, num_iterations: int) -> None:
        super().__init__(parameters, {"lr": rate, "momentum": momentum, "iterations": num_iterations})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                state = self.state[parameter]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(parameter)
                state["momentum"].lerp_(gradient, 1 - group["momentum"])
                direction = gradient.lerp(state["momentum"], group["momentum"])
                rows, columns = parameter.shape
                scale = max(1, rows / columns) ** 0.5
                parameter.add_(newton_schulz(direction, group["iterations"]), alpha=-group["lr"] * scale)


def newton_schulz(matrix: Tensor, num_iterations: int) -> Tensor:
    """The usual iteration, on one matrix."""
    a, b, c = 3.4445, -4.7750, 2.0315
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if is_tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(num_iterations):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if is_tall else x


@torch.no_grad()
def _copy(model: _Model, weights: dict[str, Tensor]) -> None:
    model.embedding.weight.copy_(weights["embedding"])
    model.norm.weight.copy_(weights["norm.final"])
    for index, block in enumerate(model.blocks):
        assert isinstance(block, _Block)
        w = {name: stacked[index] for name, stacked in weights.items() if name not in ("embedding", "norm.final")}
        block.attention_norm.weight.copy_(w["norm.attention"])
        block.mixture_norm.weight.copy_(w["norm.feed_forward"])
        block.attention.qkv.weight.copy_(w["attention.qkv"])
        block.attention.out.weight.copy_(w["attention.out"])
        block.mixture.gate.weight.copy_(w["router"])
        for number, expert in enumerate(block.mixture.experts):
            assert isinstance(expert, _Expert)
            expert.up.weight.copy_(w["expert.in"][number])
            expert.down.weight.copy_(w["expert.out"][number])
