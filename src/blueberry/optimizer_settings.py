"""The optimizers a recipe can name, each with only the settings it reads, and the rate each group of weights gets."""

from typing import Annotated, Literal, get_args

from pydantic import Field

from blueberry.settings import Section, setting

WeightGroup = Literal["matrices", "router", "embedding", "head", "norms"]
"""Weights that share a rate. `norms` holds every gain and bias; `head` exists where it is not tied."""

WEIGHT_GROUPS: tuple[WeightGroup, ...] = get_args(WeightGroup)
MUON_GROUPS: tuple[WeightGroup, ...] = ("matrices", "router")
"""What Muon trains in the hybrid; AdamW trains the rest."""

MAX_RATE = 1e6
"""Of a rate or of what multiplies it: so that their product is a number in fp32."""


class GroupRates(Section):
    """What each group's rate is multiplied with, beside its optimizer's own; 0 freezes the group."""

    matrices: float = setting(1.0, "of attention and feed-forward", per_lane=True, ge=0, le=MAX_RATE)
    router: float = setting(1.0, "of the routers to experts", per_lane=True, ge=0, le=MAX_RATE)
    embedding: float = setting(
        1.0, "of the embedding, and of the head where it is tied", per_lane=True, ge=0, le=MAX_RATE
    )
    head: float = setting(1.0, "of an untied head", per_lane=True, ge=0, le=MAX_RATE)
    norms: float = setting(1.0, "of gains and biases", per_lane=True, ge=0, le=MAX_RATE)


class Muon(Section):
    """Momentum, then the nearest semi-orthogonal matrix (Jordan et al. 2024). Trains every matrix but the embedding."""

    learning_rate: float = setting(0.06, "peak rate", per_lane=True, gt=0, le=MAX_RATE)
    momentum: float = setting(0.95, "of the moving average of gradients", per_lane=True, ge=0, lt=1)
    nesterov: bool = setting(True, "look one update ahead along the momentum")
    num_iterations: int = setting(5, "Newton-Schulz iterations", unit="iterations", ge=1, le=20)
    coefficients: Literal["quintic", "polar-express"] = setting(
        "quintic", "of the iterations: the same in each (Jordan et al. 2024), or the best for each (Amsel et al. 2025)"
    )
    update_scale: Literal["shape", "rms"] = setting(
        "shape",
        "of an orthogonal update: sqrt(max(1, rows / columns)), or 0.2 sqrt(max(rows, columns)), "
        "whose root mean square is AdamW's usual one (Liu et al. 2025)",
    )
    weight_decay: float = setting(0.0, "shrinkage per update in units of the rate", per_lane=True, ge=0)
    row_beta: float | None = setting(
        None,
        "decay of each row's mean squared update, by whose root the row is divided (NorMuon, Li et al. 2025); "
        "not given: rows are left as they are",
        ge=0,
        lt=1,
    )


_BETA1 = setting(0.9, "decay of the mean of gradients", per_lane=True, ge=0, lt=1)
_BETA2 = setting(0.95, "decay of the mean of squared gradients", per_lane=True, ge=0, lt=1)
_EPSILON = setting(1e-8, "added to the root of the second moment", gt=0)
_WEIGHT_DECAY = setting(0.1, "shrinkage per update in units of the rate", per_lane=True, ge=0)


class FollowingAdamW(Section):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019) beside Muon: embedding, head, norms."""

    learning_rate_ratio: float = setting(0.1, "its peak rate over Muon's", per_lane=True, gt=0, le=MAX_RATE)
    beta1: float = _BETA1
    beta2: float = _BETA2
    epsilon: float = _EPSILON
    weight_decay: float = _WEIGHT_DECAY


class LeadingAdamW(Section):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019) for every weight."""

    learning_rate: float = setting(0.003, "peak rate", per_lane=True, gt=0, le=MAX_RATE)
    beta1: float = _BETA1
    beta2: float = _BETA2
    epsilon: float = _EPSILON
    weight_decay: float = _WEIGHT_DECAY


class MuonAdamWOptimizer(Section):
    """Muon for matrices and routers, AdamW for the rest."""

    kind: Literal["muon-adamw"] = "muon-adamw"
    muon: Muon = Muon()
    adamw: FollowingAdamW = FollowingAdamW()
    rates: GroupRates = GroupRates()


class AdamWOptimizer(Section):
    """AdamW for every weight."""

    kind: Literal["adamw"] = "adamw"
    adamw: LeadingAdamW = LeadingAdamW()
    rates: GroupRates = GroupRates()


Optimizer = Annotated[MuonAdamWOptimizer | AdamWOptimizer, Field(discriminator="kind")]


def peak_rates(optimizer: Optimizer) -> dict[WeightGroup, float]:
    """The rate of each group of weights where the schedule's multiplier is 1."""
    rates: dict[WeightGroup, float] = {}
    for group in WEIGHT_GROUPS:
        if isinstance(optimizer, AdamWOptimizer):
            rate = optimizer.adamw.learning_rate
        elif group in MUON_GROUPS:
            rate = optimizer.muon.learning_rate
        else:
            rate = optimizer.muon.learning_rate * optimizer.adamw.learning_rate_ratio
        rates[group] = rate * getattr(optimizer.rates, group)
    return rates
