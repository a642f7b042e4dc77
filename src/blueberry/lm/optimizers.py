"""Muon and AdamW over lanes: each lane has its own rates, and no number passes from lane to lane.

First what Muon is made of: the nearest semi-orthogonal matrix by Newton-Schulz iteration, over stacks of matrices. Last
how far an update moves each group of weights; only updates that are evaluated pay for that.

Shapes: N lanes; a weight of one lane is (..., R, C) for Muon and anything for AdamW.
"""

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

from blueberry.architecture import is_matrix
from blueberry.lm.layers import Weights
from blueberry.recipe import Recipe
from blueberry.records import GroupStatistics
from blueberry.settings import (
    MUON_GROUPS,
    WEIGHT_GROUPS,
    AdamWOptimizer,
    WeightGroup,
    peak_rates,
)

Coefficients = tuple[float, float, float]
"""a, b, c of x <- a x + b x x^T x + c (x x^T)^2 x."""

QUINTIC: Coefficients = (3.4445, -4.7750, 2.0315)
"""For every iteration. Jordan et al. 2024 (Muon): steep at 0, so that it need not converge."""

POLAR_EXPRESS: tuple[Coefficients, ...] = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
    (1.875, -1.25, 0.375),
)
"""One an iteration, the last for all that follow: each the best for the singular values that those before it leave.

Amsel et al. 2025, "The Polar Express" (arXiv 2505.16932), Algorithm 1.
"""
POLAR_EXPRESS_SAFETY = 1.01
"""Singular values are held this factor below where the polynomials grow without bound, but for the last."""


GRAM_PAYS_FROM = 1.5
"""Ratio of a matrix's sides. For one R x C, R <= C, the usual iteration takes 2 R^2 C + R^3 multiplications, that on
the Gram matrix 4 R^3, and once 2 R^2 C: from here on that is less over five of them."""


def orthogonalize(stacks: Sequence[Tensor], *, num_iterations: int = 5, coefficients: str = "quintic") -> list[Tensor]:
    """Replace each matrix of each stack by its nearest semi-orthogonal one, approximately.

    Matrices that share their shorter side go through one chain of products. Every step of the iteration is a polynomial
    of the Gram matrix x x^T times x, so where a matrix is long it is the Gram matrix, R x R, that is iterated on, and
    the product of all polynomials is multiplied with x once.
    Shapes: (..., R, C) -> (..., R, C). Units: none; singular values above a hundredth of the norm land in 0.68 to
    1.14 after 5 quintic iterations, in 0.87 to 1.13 after 5 of polar-express and in 0.997 to 1.002 after 6.
    Raises: ValueError if one is not a batch of matrices.
    Source: Newton-Schulz quintic of Jordan et al. 2024 (Muon); Amsel et al. 2025 (Polar Express); Gram Newton-Schulz
    (Dao et al. 2026), which in fp32 agrees with the usual iteration to some 1e-6.
    """
    steps = iterations(coefficients, num_iterations)
    wide = [_wide(g_NRC) for g_NRC in stacks]
    made: dict[int, Tensor] = {}
    chains: dict[int, list[int]] = {}
    for index, x in enumerate(wide):
        rows, columns = x.shape[-2:]
        if columns < GRAM_PAYS_FROM * rows:
            made[index] = _usual(x, steps)
        else:
            chains.setdefault(rows, []).append(index)
    for members in chains.values():
        grams = torch.cat([wide[index] @ wide[index].transpose(-2, -1) for index in members])
        polynomials = _gram_chain(grams, steps).split([len(wide[index]) for index in members])
        for index, polynomial in zip(members, polynomials, strict=True):
            made[index] = polynomial @ wide[index]
    return [
        (made[index].transpose(-2, -1) if _is_tall(g_NRC) else made[index]).view_as(g_NRC)
        for index, g_NRC in enumerate(stacks)
    ]


def _wide(g_NRC: Tensor) -> Tensor:
    """A stack of matrices of norm 1 with no more rows than columns: (n, R, C)."""
    if g_NRC.ndim < 3:
        raise ValueError(f"expected a batch of matrices, got shape {tuple(g_NRC.shape)}")
    x = g_NRC.flatten(0, -3)
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    return x.transpose(-2, -1) if _is_tall(g_NRC) else x


def _is_tall(g_NRC: Tensor) -> bool:
    return g_NRC.shape[-2] > g_NRC.shape[-1]


def _usual(x: Tensor, steps: Sequence[Coefficients]) -> Tensor:
    """Iterate on the matrices themselves."""
    for a, b, c in steps:
        gram = x @ x.transpose(-2, -1)
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x


def _gram_chain(gram: Tensor, steps: Sequence[Coefficients]) -> Tensor:
    """The product of all steps' polynomials, of which each is taken of the Gram matrix that those before it leave.

    All are polynomials of one matrix, so they commute.
    """
    product: Tensor | None = None
    for index, (a, b, c) in enumerate(steps):
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        polynomial.diagonal(dim1=-2, dim2=-1).add_(a)
        if index + 1 < len(steps):
            gram = polynomial @ (gram @ polynomial)
        product = polynomial if product is None else polynomial @ product
    assert product is not None
    return product


def iterations(name: str, num_iterations: int) -> list[Coefficients]:
    """The coefficients of each iteration, for matrices of norm 1."""
    if name == "quintic":
        return [QUINTIC] * num_iterations
    assert name == "polar-express"
    *early, last = POLAR_EXPRESS
    s = POLAR_EXPRESS_SAFETY
    held = [(a / s, b / s**3, c / s**5) for a, b, c in early]
    a, b, c = held[0]
    held[0] = (a / s, b / s**3, c / s**5)  # the paper also divides the matrix by s before it begins
    return (held + [last] * max(0, num_iterations - len(held)))[:num_iterations]


def group_of(name: str) -> WeightGroup:
    """The group of weights whose rate a weight is trained at."""
    if name == "embedding" or name == "head":
        return name
    if not is_matrix(name):
        return "norms"
    return "router" if name.startswith("router") else "matrices"


class Optimizer:
    """Muon for matrices and AdamW for the rest, or AdamW for all. Weights are changed in place."""

    def __init__(
        self, recipes: Sequence[Recipe], weights: Weights, device: torch.device, *, is_rounded: bool = False
    ) -> None:
        """`is_rounded`: whether a CUDA device may round what it multiplies to orthogonalize to 10 bits (TF32)."""

        def tensor(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device)

        def lanes(name: str) -> Tensor:
            return tensor([recipe.get(name) for recipe in recipes])

        settings = recipes[0].optimizer
        self.is_rounded = is_rounded and device.type == "cuda"
        self.muon = None if isinstance(settings, AdamWOptimizer) else settings.muon
        """None where AdamW trains every weight."""
        self.epsilon = settings.adamw.epsilon
        self.decays_norms = settings.adamw.decay_norms
        peaks = [peak_rates(recipe.optimizer) for recipe in recipes]
        self.peak_N: dict[WeightGroup, Tensor] = {
            group: tensor([peak[group] for peak in peaks]) for group in WEIGHT_GROUPS
        }
        """The rate of each group where the schedule's multiplier is 1."""
        self.beta1_N, self.beta2_N = lanes("optimizer.adamw.beta1"), lanes("optimizer.adamw.beta2")
        self.betas = [(recipe.optimizer.adamw.beta1, recipe.optimizer.adamw.beta2) for recipe in recipes]
        self.decay_N, self.clip_N = lanes("optimizer.adamw.weight_decay"), lanes("train.clip_norm")
        if self.muon is not None:
            self.momentum_N = lanes("optimizer.muon.momentum")
            self.muon_decay_N = lanes("optimizer.muon.weight_decay")
            self.muon_decays = any(recipe.get("optimizer.muon.weight_decay") > 0 for recipe in recipes)
        self.matrices = [name for name in weights if self.muon and group_of(name) in MUON_GROUPS]
        """What Muon trains."""
        self.state: Weights = {}
        """Moments by name: momentum.W (and rows.W) for Muon, mean.W and square.W for AdamW."""
        for name, weight in weights.items():
            if self.muon is None or name not in self.matrices:
                self.state[f"mean.{name}"] = torch.zeros_like(weight)
                self.state[f"square.{name}"] = torch.zeros_like(weight)
                continue
            self.state[f"momentum.{name}"] = torch.zeros_like(weight)
            if self.muon.row_beta is not None:
                self.state[f"rows.{name}"] = torch.zeros_like(weight[..., :1])

    def rates(self, multiplier_N: Tensor) -> dict[WeightGroup, Tensor]:
        """The rate of each group (N,) at the schedule's multiplier."""
        return {group: peak_N * multiplier_N for group, peak_N in self.peak_N.items()}

    def bias_corrections(self, update: int) -> Tensor:
        """1 - beta^(update + 1) for both betas, (2, N) on the host; powers in float64, one lane at a time."""
        pairs = [[1 - beta ** (update + 1) for beta in betas] for betas in self.betas]
        return torch.tensor(pairs, dtype=torch.float32).T

    def begin(self, weights: Weights, grads: Weights, corrections_2N: Tensor, multiplier_N: Tensor) -> list[Tensor]:
        """The first of an update's three parts, at `multiplier_N` times the peak rates; see `bias_corrections`.

        AdamW's weights are updated; Muon's moments are, and where its matrices are to go is given back.
        """
        rates_N, directions = self.rates(multiplier_N), []
        for name, weight in weights.items():
            if self.muon is None or name not in self.matrices:
                self._adamw(name, weight, grads[name], corrections_2N, rates_N[group_of(name)])
                continue
            momentum, beta = self.state[f"momentum.{name}"], along(self.momentum_N, weight)
            momentum.lerp_(grads[name], 1 - beta)
            directions.append(grads[name].lerp(momentum, beta) if self.muon.nesterov else momentum)
        return directions

    def orthogonal(self, directions: list[Tensor]) -> list[Tensor]:
        """All matrices of all lanes and layers at once."""
        if self.muon is None:
            return []
        with tf32() if self.is_rounded else nullcontext():
            return orthogonalize(
                directions, num_iterations=self.muon.num_iterations, coefficients=self.muon.coefficients
            )

    def end(self, weights: Weights, steps: list[Tensor], multiplier_N: Tensor) -> None:
        """Muon's weights are moved along `steps`."""
        muon, rates_N = self.muon, self.rates(multiplier_N)
        for name, step in zip(self.matrices, steps, strict=True):
            assert muon is not None
            weight, rate_N = weights[name], rates_N[group_of(name)]
            if muon.row_beta is not None:
                step = even_rows(step, self.state[f"rows.{name}"], muon.row_beta)
            if self.muon_decays:
                weight.mul_(along(1 - rate_N * self.muon_decay_N, weight))
            rows, columns = weight.shape[-2:]
            scale_N = -rate_N * update_scale(muon.update_scale, rows, columns)
            weight.addcmul_(step, along(scale_N, weight))

    def _adamw(self, name: str, weight: Tensor, grad: Tensor, corrections_2N: Tensor, rate_N: Tensor) -> None:
        correction1_N, correction2_N = corrections_2N
        mean, square = self.state[f"mean.{name}"], self.state[f"square.{name}"]
        beta2 = along(self.beta2_N, weight)
        mean.lerp_(grad, 1 - along(self.beta1_N, weight))
        square.mul_(beta2).addcmul_(grad, grad * (1 - beta2))
        root = (square / along(correction2_N, weight)).sqrt_().add_(self.epsilon)
        if self.decays_norms or group_of(name) != "norms":
            weight.mul_(along(1 - rate_N * self.decay_N, weight))
        weight.sub_((mean / root).mul_(along(rate_N / correction1_N, weight)))


@contextmanager
def tf32() -> Iterator[None]:
    """Within, a CUDA device rounds the factors of fp32 products to 10 bits, and multiplies them on its tensor cores.

    Orthogonalized so, a matrix is some 3e-3 of its norm off; all in bf16, as public code has it, it is 1e-2 and more.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def update_scale(name: str, rows: int, columns: int) -> float:
    """What an orthogonal update is multiplied with, beside the rate.

    Source: "shape" Jordan et al. 2024; "rms" Liu et al. 2025 (Moonlight): a root mean square of 0.2.
    """
    return max(1.0, rows / columns) ** 0.5 if name == "shape" else 0.2 * max(rows, columns) ** 0.5


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
def norms(tensors: Weights) -> tuple[Tensor, dict[WeightGroup, Tensor]]:
    """The norm over all of a lane's tensors, and over each group of them, (N,) each.

    Sums of squares are added one by one: a fixed order, whatever the lane count.
    """
    squares: list[Tensor] = []
    by_group: dict[WeightGroup, list[Tensor]] = {}
    for name, tensor in tensors.items():
        squares.append(tensor.flatten(1).square().sum(-1))
        by_group.setdefault(group_of(name), []).append(squares[-1])
    by_group_N: dict[WeightGroup, Tensor] = {
        group: functools.reduce(torch.add, members).sqrt() for group, members in by_group.items()
    }
    return functools.reduce(torch.add, squares).sqrt(), by_group_N


@torch.no_grad()
def clip(grads: Weights, norm_N: Tensor, limit_N: Tensor, alive_N: Tensor) -> None:
    """Scale each lane's gradients down to its limit (0: never), and a dead lane's to exactly 0, in place."""
    scale_N = (limit_N / (norm_N + 1e-6)).clamp(max=1.0)
    scale_N = torch.where(limit_N > 0, scale_N, torch.ones_like(scale_N))
    # Nothing times 0 makes a number of what is none; on a CPU, where that is slow and asking is not, it is asked first.
    has_dead = alive_N.is_cuda or torch.compiler.is_compiling() or not bool(alive_N.all())
    for grad in grads.values():
        grad.mul_(along(scale_N, grad))
        if has_dead:
            grad.masked_fill_(~along(alive_N, grad), 0.0)


def along(values_N: Tensor, like: Tensor) -> Tensor:
    """Shape (N,) so that it multiplies a tensor whose first axis is the lane."""
    return values_N.view(-1, *(1,) * (like.ndim - 1))


Moved = list[tuple[GroupStatistics, ...]]
"""Of each lane, by group."""


def moved(before: Weights, weights: Weights, norms_GN: Tensor, rates: dict[WeightGroup, Tensor]) -> Moved:
    """What an update at `rates` (N,) did to copies of the weights `before` it, which it uses up.

    `norms_GN` are the norms of its gradients before clipping, by group.
    """
    _, lengths = norms(before)
    _, changes = norms({name: w.sub_(weights[name]) for name, w in before.items()})
    numbers_G3N = torch.stack([
        torch.stack((rates[group], norm_N, changes[group] / lengths[group]))
        for group, norm_N in zip(lengths, norms_GN, strict=True)
    ])  # fmt: skip
    lanes = numbers_G3N.permute(2, 0, 1).tolist()
    return [tuple(map(_record, lengths, lane)) for lane in lanes]


def _record(group: WeightGroup, numbers: list[float]) -> GroupStatistics:
    rate, gradient, share = (number if abs(number) < float("inf") else None for number in numbers)
    assert rate is not None
    return GroupStatistics(group=group, learning_rate=rate, gradient_norm=gradient, update_fraction=share)
