"""Measure models on fixed tokens: nats, bits per byte, accuracy, each document's share, and the experts' load.

Shapes: N lanes, W windows, T tokens of a window, L layers, E experts.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from blueberry.architecture import Experts
from blueberry.curves import DEAD_SHARE
from blueberry.lm.layers import Weights, head_scores, head_weight
from blueberry.lm.model import LanguageModel
from blueberry.records import DocumentLoss, Metrics, Routing
from blueberry.text.windows import EvaluationSet

WINDOW_TOKENS_AT_ONCE = 4096
"""A lane's tokens in one forward pass: a constant, so that no number depends on memory or company."""


class TokenScores(NamedTuple):
    """What a forward pass over windows gives, of every lane."""

    loss_NWT: NDArray[np.float64]
    """Nats of every predicted token."""
    right_NWT: NDArray[np.bool_]
    """Whether the most likely token was the right one."""
    load_NLE: NDArray[np.float64] | None
    """Assignments each expert received; None without experts."""


@torch.no_grad()
def token_scores(model: LanguageModel, weights: Weights, windows_WT1: NDArray[np.int64]) -> TokenScores:
    """Score every predicted token of the windows. `weights` are the trained ones and the state."""
    num_lanes = weights["embedding"].shape[0]
    num_windows, num_positions = windows_WT1.shape[0], windows_WT1.shape[1] - 1
    at_once = max(1, WINDOW_TOKENS_AT_ONCE // num_positions)
    losses, rights, loads = [], [], []
    tokens_WT1 = torch.from_numpy(windows_WT1).to(model.device)
    for start in range(0, num_windows, at_once):
        tokens = tokens_WT1[start : start + at_once]
        tokens_NBT1 = tokens.expand(num_lanes, *tokens.shape)
        hidden = model.hidden(weights, tokens_NBT1[..., :-1])
        loss_NS, right_NS = head_scores(hidden.x_NSD, head_weight(weights), tokens_NBT1[..., 1:].flatten(1))
        losses.append(loss_NS.view(num_lanes, -1, num_positions))
        rights.append(right_NS.view(num_lanes, -1, num_positions))
        if hidden.load_NLE is not None:
            loads.append(hidden.load_NLE.double())
    load_NLE = torch.stack(loads).sum(0).cpu().numpy() if loads else None
    return TokenScores(torch.cat(losses, 1).double().cpu().numpy(), torch.cat(rights, 1).cpu().numpy(), load_NLE)


@dataclass(frozen=True)
class Look:
    """One lane measured on one held-out set."""

    metrics: Metrics
    documents: tuple[DocumentLoss, ...]
    routing: Routing | None
    """None without experts."""


def looks(
    model: LanguageModel, weights: Weights, held_out: EvaluationSet, token_bytes_V: NDArray[np.int32] | None
) -> list[Look | None]:
    """Measure every lane; None for a lane whose loss is not finite."""
    scores = token_scores(model, weights, held_out.windows)
    feed_forward, found = model.recipe.model.feed_forward, []
    for lane, (loss_WT, right_WT) in enumerate(zip(scores.loss_NWT, scores.right_NWT, strict=True)):
        measured, shared_out = metrics(loss_WT, right_WT, held_out, token_bytes_V), None
        if isinstance(feed_forward, Experts) and scores.load_NLE is not None:
            shared_out = routing(scores.load_NLE[lane], loss_WT.size * feed_forward.top_k)
        found.append(measured and Look(measured, document_losses(loss_WT, held_out), shared_out))
    return found


def metrics(
    loss_WT: NDArray[np.float64],
    right_WT: NDArray[np.bool_],
    held_out: EvaluationSet,
    token_bytes_V: NDArray[np.int32] | None,
) -> Metrics | None:
    """One lane's scores in the units of a report; None if any loss is not finite."""
    if not np.isfinite(loss_WT).all():
        return None
    num_bytes = 0 if token_bytes_V is None else int(token_bytes_V[held_out.windows[:, 1:]].sum())
    return Metrics(
        loss=float(loss_WT.mean()),
        bits_per_byte=float(loss_WT.sum() / math.log(2) / num_bytes) if num_bytes else None,
        accuracy=float(right_WT.mean()),
        num_tokens=loss_WT.size,
    )


def routing(load_LE: NDArray[np.float64], num_assignments: int) -> Routing:
    """One lane's expert loads in the units of a report. A layer asked for `num_assignments` of them."""
    share_LE = load_LE / load_LE.sum(-1, keepdims=True)
    log_share_LE = np.log(share_LE, where=share_LE > 0, out=np.zeros_like(share_LE))
    return Routing(
        max_load_ratio=tuple((share_LE.max(-1) * share_LE.shape[-1]).tolist()),
        load_entropy_nats=tuple((-(share_LE * log_share_LE).sum(-1)).tolist()),
        dropped_fraction=float(1 - load_LE.sum() / (num_assignments * len(load_LE))),
        dead_experts=tuple((share_LE * share_LE.shape[-1] < DEAD_SHARE).sum(-1).tolist()),
    )


def document_losses(loss_WT: NDArray[np.float64], held_out: EvaluationSet) -> tuple[DocumentLoss, ...]:
    """The mean loss of each held-out document over its evaluated tokens, in the set's order."""
    num_documents = len(held_out.documents)
    sums = np.bincount(held_out.document_of.ravel(), weights=loss_WT.ravel(), minlength=num_documents)
    counts = np.bincount(held_out.document_of.ravel(), minlength=num_documents)
    return tuple(
        DocumentLoss(document=name, loss=float(total / count), num_tokens=int(count))
        for name, total, count in zip(held_out.documents, sums, counts, strict=True)
        if count
    )
