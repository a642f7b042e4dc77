"""The feed-forward half of a block: one for all tokens, or experts that share them out.

Shapes: N lanes, S tokens of a micro-batch, D width, H hidden, E experts, M shared experts, K chosen a token,
A assignments of a token to an expert.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from blueberry.architecture import ROUTER_BIAS, Experts, MixtureOfExperts, Mlp, Model
from blueberry.lm import chance as places
from blueberry.lm.chance import Chance
from blueberry.lm.experts import Assignment, combine, dispatch, grouped_linear
from blueberry.lm.layers import ACTIVATIONS, linear
from blueberry.lm.routers import ROUTERS, balance_loss, z_loss
from blueberry.lm.weights import Weights


class Routed(NamedTuple):
    """What the router of one layer did."""

    load_NE: Tensor
    """Assignments each expert received, fp32."""
    balance_N: Tensor | None
    """E * sum_e fraction_e * probability_e; None where a bias keeps the balance."""
    z_N: Tensor | None
    """Mean squared logsumexp of the logits; None where a bias keeps the balance."""


def mlp(model: Model, w: Weights, x_NSD: Tensor, chance: Chance) -> Tensor:
    assert isinstance(model.feed_forward, Mlp)
    h_NSH = ACTIVATIONS[model.feed_forward.activation](linear(x_NSD, w["mlp.in"]))
    return linear(chance.drop(places.HIDDEN, h_NSH), w["mlp.out"])


def swiglu(model: Model, w: Weights, x_NSD: Tensor, chance: Chance) -> Tensor:
    h_NSH = ACTIVATIONS["silu"](linear(x_NSD, w["mlp.gate"])) * linear(x_NSD, w["mlp.in"])
    return linear(chance.drop(places.HIDDEN, h_NSH), w["mlp.out"])


DENSE: dict[str, Callable[[Model, Weights, Tensor, Chance], Tensor]] = {"mlp": mlp, "swiglu": swiglu}
"""(N, S, D) -> (N, S, D). The kinds with experts are `experts`, which also tells what its router did."""


def experts(
    model: Model,
    w: Weights,
    x_NSD: Tensor,
    chance: Chance,
    noise_N: Tensor | None,
    fraction_NE: Tensor | None,
) -> tuple[Tensor, Routed]:
    """Each token through the experts its router chose, and through all shared ones: (N, S, D) -> (N, S, D).

    `noise_N` is the sd of training's router noise. `fraction_NE` is the share of the whole update's assignments
    that each expert receives; without it these tokens are taken for the whole.
    """
    kind = model.feed_forward
    assert isinstance(kind, Experts)
    num_lanes, num_tokens, _ = x_NSD.shape
    logits_NSE = linear(x_NSD, w["router"])
    if noise_N is not None and (normal_NSE := chance.normal(places.ROUTER, logits_NSE)) is not None:
        logits_NSE = logits_NSE + noise_N[:, None, None] * normal_NSE
    router = kind.router if isinstance(kind, MixtureOfExperts) else "sigmoid-bias"
    index_NSK, weight_NSK = ROUTERS[router](logits_NSE, w.get(ROUTER_BIAS), kind.top_k)
    assignment = Assignment(index_NSK, kind.num_experts)
    load_NE = assignment.load_NE(num_lanes)
    balance_N = z_N = None
    if isinstance(kind, MixtureOfExperts):
        if fraction_NE is None:
            fraction_NE = load_NE / (num_tokens * kind.top_k)
        balance_N, z_N = balance_loss(logits_NSE, fraction_NE), z_loss(logits_NSE)
    y_PD = _chosen(kind, w, x_NSD.flatten(0, 1), weight_NSK.flatten(0, 1), assignment, chance)
    y_NSD = y_PD.view_as(x_NSD)
    if kind.num_shared_experts:
        y_NSD = y_NSD + _shared(kind, w, x_NSD, chance)
    return y_NSD, Routed(load_NE, balance_N, z_N)


def _chosen(
    kind: Experts, w: Weights, x_PD: Tensor, weight_PK: Tensor, assignment: Assignment, chance: Chance
) -> Tensor:
    x_AD = dispatch(x_PD, assignment)
    h_AH = grouped_linear(x_AD, w["expert.in"].flatten(0, 1), assignment)
    if kind.gated:
        h_AH = ACTIVATIONS[kind.activation](grouped_linear(x_AD, w["expert.gate"].flatten(0, 1), assignment)) * h_AH
    else:
        h_AH = ACTIVATIONS[kind.activation](h_AH)
    keep_AH = chance.keep(places.HIDDEN, h_AH)
    if keep_AH is not None:  # drawn by token and choice, so that the sorting does not move it
        h_AH = (h_AH * keep_AH.index_select(0, assignment.order_A)).to(h_AH.dtype)
    return combine(grouped_linear(h_AH, w["expert.out"].flatten(0, 1), assignment), weight_PK, assignment)


def _shared(kind: Experts, w: Weights, x_NSD: Tensor, chance: Chance) -> Tensor:
    """The sum of all shared experts, as one product in and one out over their joined hidden features."""
    h_NSH = linear(x_NSD, w["shared.in"].flatten(1, 2))
    if kind.gated:
        h_NSH = ACTIVATIONS[kind.activation](linear(x_NSD, w["shared.gate"].flatten(1, 2))) * h_NSH
    else:
        h_NSH = ACTIVATIONS[kind.activation](h_NSH)
    out_NDH = w["shared.out"].transpose(1, 2).flatten(2)
    return linear(chance.drop(places.SHARED_HIDDEN, h_NSH), out_NDH)
