"""Several comparisons in one study."""

from collections.abc import Sequence


def holm_levels(p_values: Sequence[float], alpha: float) -> list[float]:
    """The error each hypothesis may be tested at, so that any false rejection has probability at most alpha.

    The j-th smallest p-value (j = 0, 1, ...) is tested at alpha / (m - j), until one is not rejected; the rest are
    tested at that one's level. So p <= level exactly where Holm rejects, and an interval at 1 - level excludes 0
    exactly there.
    Source: Holm 1979, a step-down Bonferroni; needs no independence.
    """
    levels = [0.0] * len(p_values)
    stopped_at: float | None = None
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        level = alpha / (len(p_values) - rank) if stopped_at is None else stopped_at
        levels[index] = level
        if p_values[index] > level:
            stopped_at = level
    return levels
