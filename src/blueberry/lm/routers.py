"""Which experts a token goes to, with which weights, and what keeps their load even.

Shapes: N lanes, S tokens of a micro-batch, E experts, K chosen a token, L layers.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Router = Callable[[Tensor, Tensor | None, int], tuple[Tensor, Tensor]]
"""(logits (N, S, E), selection bias (N, E) or None, K) to indices (N, S, K) and their weights (N, S, K)."""


def largest(scores_NSE: Tensor, num_chosen: int) -> Tensor:
    """Indices (N, S, K) of the K largest scores of each token, best first.

    By repeated maxima: several times faster than topk at the few experts of a layer.
    """
    left_NSE, indices = scores_NSE.detach(), []
    for _ in range(num_chosen):
        index_NS1 = left_NSE.argmax(-1, keepdim=True)
        left_NSE = left_NSE.scatter(-1, index_NS1, float("-inf"))
        indices.append(index_NS1)
    return torch.cat(indices, -1)


def softmax_after(logits_NSE: Tensor, bias_NE: Tensor | None, num_chosen: int) -> tuple[Tensor, Tensor]:
    """A softmax over the chosen: weights add up to 1. Source: Shazeer et al. 2017."""
    index_NSK = largest(logits_NSE, num_chosen)
    return index_NSK, logits_NSE.gather(-1, index_NSK).softmax(-1)


def softmax_before(logits_NSE: Tensor, bias_NE: Tensor | None, num_chosen: int) -> tuple[Tensor, Tensor]:
    """The chosen of a softmax over all: weights add up to less than 1. Source: Fedus et al. 2021."""
    index_NSK = largest(logits_NSE, num_chosen)
    return index_NSK, logits_NSE.softmax(-1).gather(-1, index_NSK)


def sigmoid_bias(logits_NSE: Tensor, bias_NE: Tensor | None, num_chosen: int) -> tuple[Tensor, Tensor]:
    """Chosen by sigmoid plus bias, weighted by the sigmoids over their sum. Source: DeepSeek-V3 (2024), eq. 16."""
    assert bias_NE is not None
    score_NSE = logits_NSE.sigmoid()
    index_NSK = largest(score_NSE + bias_NE[:, None], num_chosen)
    chosen_NSK = score_NSE.gather(-1, index_NSK)
    return index_NSK, chosen_NSK / (chosen_NSK.sum(-1, keepdim=True) + 1e-20)


ROUTERS: dict[str, Router] = {
    "softmax-after": softmax_after,
    "softmax-before": softmax_before,
    "sigmoid-bias": sigmoid_bias,
}


def balance_loss(logits_NSE: Tensor, fraction_NE: Tensor) -> Tensor:
    """E * sum_e fraction of assignments_e * mean probability_e, (N,): 1 when even. Source: Fedus et al. 2021."""
    return logits_NSE.shape[-1] * (fraction_NE * logits_NSE.softmax(-1).mean(1)).sum(-1)


def z_loss(logits_NSE: Tensor) -> Tensor:
    """The mean over tokens of the squared logsumexp of a token's logits, (N,). Source: Zoph et al. 2022."""
    return logits_NSE.logsumexp(-1).square().mean(1)


@torch.no_grad()
def rebalanced(bias_NLE: Tensor, load_NLE: Tensor, rate_N: Tensor) -> Tensor:
    """The selection bias after an update in which each expert received `load_NLE` assignments.

    Up by the rate where an expert got less than the mean, down where it got more. Source: Wang et al. 2024.
    """
    lack_NLE = load_NLE.mean(-1, keepdim=True) - load_NLE
    return bias_NLE + rate_N[:, None, None] * lack_NLE.sign()
