"""Where chance enters a forward pass: dropout and router noise, each place with a number of its own.

Shapes: N lanes, B sequences of a micro-batch.
"""

from dataclasses import dataclass, replace

from torch import Tensor

from blueberry.lm.draws import Draws

EMBEDDING, HEAD = 0, 1
ATTENTION, ATTENTION_BRANCH, ROUTER, HIDDEN, FEED_FORWARD_BRANCH, SHARED_HIDDEN = 2, 3, 4, 5, 6, 7
"""Places in a layer."""

_SITES_A_LAYER = 8


@dataclass(frozen=True)
class Chance:
    """The random draws of the whole model, or of one layer. Without draws nothing is left to chance: evaluation."""

    draws: Draws | None
    dropout: float
    first_site: int = 0

    def of_layer(self, index: int) -> "Chance":
        return replace(self, first_site=_SITES_A_LAYER * (index + 1))

    def keep(self, place: int, like: Tensor) -> Tensor | None:
        """A dropout mask for a tensor of N * B equal shares; None where nothing is dropped."""
        if self.draws is None or self.dropout == 0:
            return None
        return self.draws.keep_NBK(self.first_site + place, self._share(like), self.dropout).view_as(like)

    def normal(self, place: int, like: Tensor) -> Tensor | None:
        """Standard normal numbers for a tensor of N * B equal shares; None in evaluation."""
        if self.draws is None:
            return None
        return self.draws.normal_NBK(self.first_site + place, self._share(like)).view_as(like)

    def drop(self, place: int, x: Tensor) -> Tensor:
        keep = self.keep(place, x)
        return x if keep is None else (x * keep).to(x.dtype)

    def _share(self, like: Tensor) -> int:
        assert self.draws is not None
        return like.numel() // (len(self.draws.seeds) * len(self.draws.sequences))
