"""How far an update moves each group of weights, in every lane. Only updates that are evaluated pay for it.

Shapes: N lanes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from blueberry.lm.optimizers import gradient_norm, group_of
from blueberry.lm.weights import Weights
from blueberry.records import GroupStatistics
from blueberry.settings import WeightGroup


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
