"""What no text allows and what chance hardly makes: limits that several audits share, with where they are from."""

import math
from collections.abc import Sequence

MOST_ACCURACY = 0.9
"""No model of natural text predicts so many tokens."""
LEAST_LOSS_NATS = 0.3
"""Per token. Natural text has 0.6 to 1.3 bits a letter (Shannon 1951), so 0.4 nats even where a token is a letter."""
NEXT_TOKEN_ACCURACY = 0.98
"""All but the last token of a window or so: what a model that sees the next token reaches."""
SAME_LOSS = 0.1
"""Nats: losses further apart are of two different models."""
DRIFT_NATS = 0.13
"""3 sqrt 2 times .03 nats, the noise of runs of a few updates; longer runs have less. Where nothing was measured."""
CLOCK = 0.05
"""Relative resolution that times must have to be compared."""
LEAST_TIMES = 8
ONE_IN_A_HUNDRED = 2.576


def is_in_order(times: Sequence[float]) -> bool:
    """Whether times of runs that should cost the same follow the order they are given in: eight or more of them,
    more than CLOCK apart, with a rank correlation that chance gives once in a hundred."""
    if len(times) < LEAST_TIMES or max(times) < (1 + CLOCK) * min(times):
        return False
    return abs(rank_correlation(times)) > ONE_IN_A_HUNDRED / math.sqrt(len(times) - 1)


def rank_correlation(values: Sequence[float]) -> float:
    """Spearman's, of values with their places; ties have their mean rank."""
    ranks = [sum(other < one for other in values) + (sum(other == one for other in values) - 1) / 2 for one in values]
    middle = (len(values) - 1) / 2
    covariance = sum((place - middle) * (rank - middle) for place, rank in enumerate(ranks))
    spread = math.sqrt(sum((rank - middle) ** 2 for rank in ranks) * sum((p - middle) ** 2 for p in range(len(values))))
    return covariance / spread if spread else 0.0
