"""Muon and AdamW over lanes: each lane has its own rates, and no number passes from lane to lane.

How far an update moves each group of weights is told here too; only updates that are evaluated pay for it.

Shapes: N lanes; a weight of one lane is (..., R, C) for Muon and anything for AdamW.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from blueberry.architecture import is_matrix
from blueberry.lm.orthogonalize import orthogonalize_all
from blueberry.lm.weights import Weights
from blueberry.recipe import Recipe
from blueberry.records import GroupStatistics
from blueberry.settings import (
    MUON_GROUPS,
    WEIGHT_GROUPS,
    AdamWOptimizer,
    Muon,
    MuonAdamWOptimizer,
    WeightGroup,
    peak_rates,
)


def group_of(name: str) -> WeightGroup:
    """The group of weights whose rate a weight is trained at."""
    if name == "embedding" or name == "head":
        return name
    if not is_matrix(name):
        return "norms"
    return "router" if name.startswith("router") else "matrices"


class Rates:
    """The settings that may differ between lanes, as tensors (N,)."""

    def __init__(self, recipes: Sequence[Recipe], device: torch.device) -> None:
        def tensor(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device)

        def lanes(name: str) -> Tensor:
            return tensor([recipe.get(name) for recipe in recipes])

        peaks = [peak_rates(recipe.optimizer) for recipe in recipes]
        self.peak_N: dict[WeightGroup, Tensor] = {
            group: tensor([peak[group] for peak in peaks]) for group in WEIGHT_GROUPS
        }
        """Of each group, where the schedule's multiplier is 1."""
        self.beta1_N = lanes("optimizer.adamw.beta1")
        self.beta2_N = lanes("optimizer.adamw.beta2")
        self.betas = [(recipe.optimizer.adamw.beta1, recipe.optimizer.adamw.beta2) for recipe in recipes]
        self.decay_N = lanes("optimizer.adamw.weight_decay")
        self.clip_N = lanes("train.clip_norm")
        if isinstance(recipes[0].optimizer, MuonAdamWOptimizer):
            self.momentum_N = lanes("optimizer.muon.momentum")
            self.muon_decay_N = lanes("optimizer.muon.weight_decay")
            self.muon_decays = any(recipe.get("optimizer.muon.weight_decay") > 0 for recipe in recipes)

    def used(self, multiplier_N: Tensor) -> dict[WeightGroup, Tensor]:
        """The rate of each group (N,) at the schedule's multiplier."""
        return {group: peak_N * multiplier_N for group, peak_N in self.peak_N.items()}

    def bias_corrections(self, update: int) -> tuple[Tensor, Tensor]:
        """1 - beta^(update + 1) for both betas, (N,) each; powers in float64, one lane at a time."""
        pairs = [[1 - beta ** (update + 1) for beta in betas] for betas in self.betas]
        first_N, second_N = torch.tensor(pairs, dtype=torch.float32, device=self.clip_N.device).unbind(1)
        return first_N, second_N


class Optimizer:
    """Muon for matrices and AdamW for the rest, or AdamW for all. Weights are changed in place."""

    def __init__(self, recipes: Sequence[Recipe], weights: Weights, device: torch.device) -> None:
        settings = recipes[0].optimizer
        self.muon = None if isinstance(settings, AdamWOptimizer) else settings.muon
        """None where AdamW trains every weight."""
        self.epsilon = settings.adamw.epsilon
        self.decays_norms = settings.adamw.decay_norms
        self.rates = Rates(recipes, device)
        self.state: Weights = {}
        """Moments by name: momentum.W (and rows.W) for Muon, mean.W and square.W for AdamW."""
        for name, weight in weights.items():
            if self.muon is None or group_of(name) not in MUON_GROUPS:
                self.state[f"mean.{name}"] = torch.zeros_like(weight)
                self.state[f"square.{name}"] = torch.zeros_like(weight)
                continue
            self.state[f"momentum.{name}"] = torch.zeros_like(weight)
            if self.muon.row_beta is not None:
                self.state[f"rows.{name}"] = torch.zeros_like(weight[..., :1])

    @torch.no_grad()
    def step(self, weights: Weights, grads: Weights, *, update: int, multiplier_N: Tensor) -> None:
        """One update, counted from 0, at `multiplier_N` times the peak rates."""
        rates_N = self.rates.used(multiplier_N)
        corrections = self.rates.bias_corrections(update)
        for name, weight in weights.items():
            if self.muon is None or group_of(name) not in MUON_GROUPS:
                self._adamw(name, weight, grads[name], corrections, rates_N[group_of(name)])
        if self.muon is not None:
            self._muon(self.muon, weights, grads, rates_N)

    def _muon(self, muon: Muon, weights: Weights, grads: Weights, rates_N: dict[WeightGroup, Tensor]) -> None:
        """All matrices of all lanes and layers at once."""
        names = [name for name in weights if group_of(name) in MUON_GROUPS]
        directions = []
        for name in names:
            momentum, beta = self.state[f"momentum.{name}"], along(self.rates.momentum_N, weights[name])
            momentum.lerp_(grads[name], 1 - beta)
            directions.append(grads[name].lerp(momentum, beta) if muon.nesterov else momentum)
        steps = orthogonalize_all(directions, num_iterations=muon.num_iterations, coefficients=muon.coefficients)
        for name, step in zip(names, steps, strict=True):
            weight, rate_N = weights[name], rates_N[group_of(name)]
            if muon.row_beta is not None:
                step = even_rows(step, self.state[f"rows.{name}"], muon.row_beta)
            if self.rates.muon_decays:
                weight.mul_(along(1 - rate_N * self.rates.muon_decay_N, weight))
            rows, columns = weight.shape[-2:]
            scale_N = -rate_N * update_scale(muon.update_scale, rows, columns)
            weight.addcmul_(step, along(scale_N, weight))

    def _adamw(
        self, name: str, weight: Tensor, grad: Tensor, corrections: tuple[Tensor, Tensor], rate_N: Tensor
    ) -> None:
        rates, correction1_N, correction2_N = self.rates, *corrections
        mean, square = self.state[f"mean.{name}"], self.state[f"square.{name}"]
        beta2 = along(rates.beta2_N, weight)
        mean.lerp_(grad, 1 - along(rates.beta1_N, weight))
        square.mul_(beta2).addcmul_(grad, grad * (1 - beta2))
        root = (square / along(correction2_N, weight)).sqrt_().add_(self.epsilon)
        if self.decays_norms or group_of(name) != "norms":
            weight.mul_(along(1 - rate_N * rates.decay_N, weight))
        weight.sub_((mean / root).mul_(along(rate_N / correction1_N, weight)))


def update_scale(name: str, rows: int, columns: int) -> float:
    """What an orthogonal update is multiplied with, beside the rate.

    Source: "shape" Jordan et al. 2024; "rms" Liu et al. 2025 (Moonlight): a root mean square of 0.2.
    """
    if name == "shape":
        return max(1.0, rows / columns) ** 0.5
    assert name == "rms"
    return 0.2 * max(rows, columns) ** 0.5


def even_rows(direction: Tensor, mean_square: Tensor, beta: float) -> Tensor:
    """Divide each row by the root of its mean square over time, then give each matrix its former norm.

    Shapes: (..., R, C) and the moving mean (..., R, 1), changed in place -> (..., R, C).
    Source: NorMuon, Li et al. 2025 (arXiv 2510.05491); no bias correction, as the norm is restored.
    """
    mean_square.lerp_(direction.square().mean(-1, keepdim=True), 1 - beta)
    even = direction / mean_square.sqrt().add_(1e-10)
    norm, even_norm = (x.norm(dim=(-2, -1), keepdim=True) for x in (direction, even))
    return even * (norm / even_norm.add_(1e-10))


@torch.no_grad()
def gradient_norm(grads: Weights) -> Tensor:
    """The norm over all of a lane's gradients: (N,). Added one by one: a fixed order, whatever the lane count."""
    return functools.reduce(Tensor.add_, (grad.flatten(1).square().sum(-1) for grad in grads.values())).sqrt_()


@torch.no_grad()
def clip(grads: Weights, norm_N: Tensor, limit_N: Tensor, alive_N: Tensor) -> None:
    """Scale each lane's gradients down to its limit (0: never), and a dead lane's to exactly 0, in place."""
    scale_N = (limit_N / (norm_N + 1e-6)).clamp(max=1.0)
    scale_N = torch.where(limit_N > 0, scale_N, torch.ones_like(scale_N))
    # Nothing times 0 makes a number of what is none; on a CPU, where that is slow and asking is not, it is asked first.
    has_dead = alive_N.is_cuda or not bool(alive_N.all())
    for grad in grads.values():
        grad.mul_(along(scale_N, grad))
        if has_dead:
            grad.masked_fill_(~along(alive_N, grad), 0.0)


def along(values_N: Tensor, like: Tensor) -> Tensor:
    """Shape (N,) so that it multiplies a tensor whose first axis is the lane."""
    return values_N.view(-1, *(1,) * (like.ndim - 1))


@dataclass(frozen=True)
class Standing:
    """The weights before an update, and its gradients before clipping."""

    weights: Weights
    gradient_norms: dict[WeightGroup, Tensor]

    @classmethod
    def of(cls, weights: Weights, grads: Weights) -> "Standing":
        """Copies the weights: they are about to change in place."""
        return cls({name: w.clone() for name, w in weights.items()}, group_norms(grads))

    def moved_to(self, weights: Weights, rates: dict[WeightGroup, Tensor]) -> "Movement":
        """What the update did, at `rates` (N,). Uses the copies up."""
        norms = group_norms(self.weights)
        changes = group_norms({name: w.sub_(weights[name]) for name, w in self.weights.items()})
        columns = [
            torch.stack((rates[group], self.gradient_norms[group], changes[group] / norms[group])) for group in norms
        ]
        return Movement(tuple(norms), torch.stack(columns))


@dataclass(frozen=True)
class Movement:
    groups: tuple[WeightGroup, ...]
    numbers_G3N: Tensor
    """Rate, gradient norm and share of the weights changed; G groups."""

    def statistics(self) -> list[tuple[GroupStatistics, ...]]:
        """One record a group, for each lane."""
        lanes = self.numbers_G3N.permute(2, 0, 1).tolist()
        return [tuple(map(_record, self.groups, lane)) for lane in lanes]


def _record(group: WeightGroup, numbers: list[float]) -> GroupStatistics:
    rate, gradient, share = (number if abs(number) < float("inf") else None for number in numbers)
    assert rate is not None
    return GroupStatistics(group=group, learning_rate=rate, gradient_norm=gradient, update_fraction=share)


@torch.no_grad()
def group_norms(tensors: Weights) -> dict[WeightGroup, Tensor]:
    """The norm over each group of a lane's tensors: (N,) each, for the groups there are."""
    by_group: dict[WeightGroup, Weights] = {}
    for name, tensor in tensors.items():
        by_group.setdefault(group_of(name), {})[name] = tensor
    return {group: gradient_norm(members) for group, members in by_group.items()}
