"""Measure models on fixed tokens: nats, bits per byte, accuracy, and each document's share.

Shapes: N lanes, W windows, T tokens of a window.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from blueberry.lm.loss import head_scores
from blueberry.lm.model import LanguageModel, Weights
from blueberry.records import DocumentLoss, Metrics
from blueberry.text import EvaluationSet

WINDOW_TOKENS_AT_ONCE = 4096
"""A lane's tokens in one forward pass: a constant, so that no number depends on memory or company."""


@torch.no_grad()
def token_scores(
    model: LanguageModel, weights: Weights, windows_WT1: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Loss in nats of every predicted token, and whether the most likely token was right: both (N, W, T)."""
    num_lanes = weights["embedding"].shape[0]
    num_windows, num_positions = windows_WT1.shape[0], windows_WT1.shape[1] - 1
    at_once = max(1, WINDOW_TOKENS_AT_ONCE // num_positions)
    losses, rights = [], []
    for start in range(0, num_windows, at_once):
        tokens = torch.from_numpy(windows_WT1[start : start + at_once]).to(model.device)
        tokens_NBT1 = tokens.expand(num_lanes, *tokens.shape)
        hidden = model.hidden(weights, tokens_NBT1[..., :-1])
        loss_NS, right_NS = head_scores(hidden.x_NSD, weights["embedding"], tokens_NBT1[..., 1:].flatten(1))
        losses.append(loss_NS.view(num_lanes, -1, num_positions).double().cpu())
        rights.append(right_NS.view(num_lanes, -1, num_positions).cpu())
    return torch.cat(losses, 1).numpy(), torch.cat(rights, 1).numpy()


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
