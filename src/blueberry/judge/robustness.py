"""How much it costs to miss the best value, and where runs begin to fail: along one numeric axis."""

import math

import numpy as np

from blueberry.judge.answers import Failing, Robustness
from blueberry.judge.measured import Measured
from blueberry.judge.ranges import is_unstable
from blueberry.stats.robustness import DECADE, Edge, band_within, lr_sensitivity, stability


def find_robustness(measured: Measured) -> Robustness | None:
    """None without one logarithmic axis, or while the noise is unknown."""
    axis, evidence = measured.axis, measured.evidence
    if axis is None or not axis.is_log or not measured.can_judge or measured.race is not None:
        return None
    rates_K, values_KN = np.array(axis.values), measured.values_KN
    band = band_within(rates_K, values_KN, evidence.min_effect)
    excess = lr_sensitivity(rates_K, values_KN, cap=evidence.guessing_loss)
    runs_K = [[*arm.search.values(), *arm.confirm.values()] for arm in evidence.arms]
    limit = evidence.guessing_loss or math.inf
    failures_K = [sum(math.isinf(value) or value > limit for value in runs) for runs in runs_K]
    assert all(bool(failures) == is_unstable(measured, i) for i, failures in enumerate(failures_K))
    edges = stability(axis.values, failures_K, [len(runs) for runs in runs_K], level=1 - evidence.alpha)
    return Robustness(
        band=None if band is None else (band.low, band.high),
        band_factor=None if band is None else band.factor,
        band_is_bounded=None if band is None else (band.low_is_bounded, band.high_is_bounded),
        excess=None if excess is None else excess.difference,
        excess_interval=None if excess is None else excess.interval(1 - evidence.alpha),
        span=DECADE,
        stable_to=_failing(edges.highest_stable),
        unstable_from=_failing(edges.lowest_unstable),
    )


def _failing(edge: Edge | None) -> Failing | None:
    return None if edge is None else Failing(value=edge.x, failures=edge.failures, n=edge.n, bound=edge.bound)
