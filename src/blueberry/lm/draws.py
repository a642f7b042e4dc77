"""Random numbers as a function of where they are used: (seed, update, site, sequence, element).

A counter-based hash instead of a generator with a state. So a draw does not depend on which lanes or
micro-batches are computed together, on the device, or on what was drawn before; resuming needs no saved state.

Shapes: N lanes, B sequences, K elements of one sequence.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class Draws:
    """The random numbers of one micro-batch. `site` is a number that each place in the model has for itself."""

    seeds: tuple[int, ...]
    """One a lane."""
    update: int
    sequences: range
    """Which of the update's sequences this micro-batch holds."""
    device: torch.device

    def keep_NBK(self, site: int, num_elements: int, drop: float) -> Tensor:
        """Dropout masks: 0 with probability `drop`, else 1 / (1 - drop). Shape (N, B, num_elements), fp32."""
        threshold = round(drop * 2**24)
        return (self._bits_NBK(site, num_elements) >= threshold).float().mul_(1.0 / (1.0 - drop))

    def normal_NBK(self, site: int, num_elements: int) -> Tensor:
        """Standard normal numbers (Box & Muller 1958). Shape (N, B, num_elements), fp32."""
        bits_NBK = self._bits_NBK(site, 2 * num_elements)
        uniform_NBK = (bits_NBK.float() + 0.5) * 2.0**-24
        radius_NBK = (-2.0 * uniform_NBK[..., :num_elements].log()).sqrt_()
        return radius_NBK * (2.0 * math.pi * uniform_NBK[..., num_elements:]).cos()

    def _bits_NBK(self, site: int, num_elements: int) -> Tensor:
        """24 random bits an element, as int32."""
        counter_K = _mix(torch.arange(num_elements, dtype=torch.int32, device=self.device))
        keys_NB = torch.from_numpy(self._keys_NB(site)).to(self.device)
        return _mix(counter_K ^ keys_NB[..., None]) & 0xFFFFFF

    def _keys_NB(self, site: int) -> np.ndarray:
        """A well mixed 32-bit key for each lane and sequence, int32."""
        with np.errstate(over="ignore"):
            key_N1 = np.array(self.seeds, dtype=np.uint64)[:, None]
            sequence_1B = np.arange(self.sequences.start, self.sequences.stop, dtype=np.uint64)[None]
            key_NB = _splitmix(
                _splitmix(_splitmix(_splitmix(key_N1) ^ np.uint64(self.update)) ^ np.uint64(site)) ^ sequence_1B
            )
        return (key_NB >> np.uint64(32)).astype(np.uint32).view(np.int32)


def _splitmix(x: np.ndarray) -> np.ndarray:
    """Scramble uint64 values one to one. Source: SplitMix64 (Steele, Lea & Flood 2014)."""
    x = x + np.uint64(_GOLDEN)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _mix(x: Tensor) -> Tensor:
    """Scramble int32 values one to one, wrapping. Source: C. Wellons' hash prospector, "lowbias32".

    Right shifts of int32 are arithmetic, so the bits they drag in are masked away.
    """
    x = x ^ ((x >> 16) & 0xFFFF)
    x = x * 0x7FEB352D
    x = x ^ ((x >> 15) & 0x1FFFF)
    x = x * (0x846CA68B - 2**32)
    return x ^ ((x >> 16) & 0xFFFF)
