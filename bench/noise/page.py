"""The page on real noise, from the table alone."""

import numpy as np

from bench.noise.analysis import (
    ALPHA,
    MIN_EFFECT_NATS,
    SEEDS,
    SUBSETS,
    Pooled,
    RateNoise,
    pooled,
    rate_noise,
    replay,
    replay_null,
)
from bench.noise.table import Horizon
from bench.truth.page import table

INTRODUCTION = """# How noisy real training is

Planning needs two numbers that no simulation gives: how much repeats of one run differ (the sd), and how much of
that the arms on one seed share (the correlation rho, which pairing takes away). So one small recipe was trained in
full, on a processor: `bench/noise/pico.toml`, a mixture of experts of width 64 on the embedded corpus, five
learning rates, the same {seeds} seeds at every rate, at {horizons} updates. Every run ends its own complete
schedule. All {runs} runs stand in `bench/noise/table.csv`, one a row. The numbers are of this recipe: noise is
measured per recipe and horizon, and never carried over."""

NOISE = """## By horizon and rate

Final validation loss in nats. sd with its 95% interval (chi squared); rho is the correlation over the seeds with
the rate of least mean at that horizon, with Fisher's 95% interval."""

POOLED = """## As a study would measure it

Measured before each arm had a noise of its own, pooled over the better half of the rates; intervals by the
jackknife over the seeds, 95%. The paired sd is that of a difference of two arms on one seed; with rho = 0 it would
be sqrt(2) sd."""

REPLAY = """## Three, five and eight seeds against all of them

{subsets:,} random subsets of the seeds, each judged as a study of its own (`min_effect` {min_effect} nats, alpha
.05), held against all {seeds} seeds. A *false winner* names a winner that all seeds contradict or leave open; a
*false tie* calls a tie what all seeds put at `min_effect` or more; *best kept*: the unresolved set holds the rate
that all seeds find best; *least mean right*: the rate of least mean is that one. Subsets are drawn from the very
seeds that make the truth, so errors come out slightly too rare, the more so at eight seeds."""

NULL = """## Real noise, nothing to find

The same noise with every rate's mean taken away, so that all five are equally good, and as many studies drawn from
it: once with the measured values (seeds with replacement, all rates on the same ones; a seed drawn twice raises the
share a little), once as Gaussian noise of the same covariance. Every winner is a false one, and at most 5% of the
studies may have one; **bold** is significantly more (binomial test, .01). One rate is three to seven times as noisy as
the others: these rows are of the rule that pooled, before each arm had a noise of its own. What the Gaussian rows do
not show comes from seeds drawn twice or from noise that is not Gaussian: these runs cannot tell which."""

MADE = """## Made by

`make noise` trains what is missing of the three studies, reads the store into the table and writes this page; a
study enters the table when all of its runs have ended. `python -m bench.noise --out docs/noise.md` writes the page
from the table that is here."""


def page(horizons: list[Horizon], *, subsets: int = SUBSETS) -> str:
    """Markdown."""
    seeds = sorted({len(horizon.seeds) for horizon in horizons})
    runs = sum(horizon.losses_KN.size for horizon in horizons)
    parts = [
        INTRODUCTION.format(
            seeds=_listing(seeds), horizons=_listing([horizon.updates for horizon in horizons]), runs=runs
        ),
        NOISE,
        _noise_table(horizons),
        POOLED,
        _pooled_table(horizons),
        REPLAY.format(subsets=subsets, min_effect=MIN_EFFECT_NATS, seeds=_listing(seeds)),
        _replay_table(horizons, subsets),
        NULL,
        _null_table(horizons, subsets),
        MADE,
    ]
    return "\n\n".join(parts) + "\n"


def _noise_table(horizons: list[Horizon]) -> str:
    heading = ("updates", "learning rate", "n", "diverged", "mean", "sd", "rho with the best rate")
    rows = [(str(horizon.updates), *_rate_row(one)) for horizon in horizons for one in rate_noise(horizon)]
    return table(heading, rows)


def _rate_row(one: RateNoise) -> tuple[str, ...]:
    rho = "best" if one.rho is None else f"{one.rho:.2f} {_ends(one.rho_interval, 2)}"
    sd = f"{one.sd:.4f} {_ends(one.sd_interval, 4)}"
    return (f"{one.rate:g}", str(one.n), str(one.num_diverged), f"{one.mean:.4f}", sd, rho)


def _pooled_table(horizons: list[Horizon]) -> str:
    heading = ("updates", "n", "sd, nats", "rho", "paired sd, nats")
    rows = []
    for horizon in horizons:
        found = pooled(horizon)
        told = (_pooled(found["sd"], 4), _pooled(found["rho"], 2), _pooled(found["paired sd"], 4))
        rows.append((str(horizon.updates), f"{len(horizon.seeds)} seeds", *told))
    return table(heading, rows)


def _replay_table(horizons: list[Horizon], subsets: int) -> str:
    heading = (
        "updates",
        "seeds",
        "winner",
        "tie",
        "inconclusive",
        "false winners",
        "false ties",
        "best kept",
        "unresolved rates",
        "least mean right",
        "its regret, nats",
    )
    rows = []
    for horizon in horizons:
        for n in SEEDS:
            one = replay(horizon, n, np.random.default_rng([horizon.updates, n]), subsets=subsets)
            shares = (one.winner, one.tie, one.inconclusive, one.false_winner, one.false_tie, one.best_kept)
            rows.append(
                (
                    str(horizon.updates),
                    str(n),
                    *(f"{share:.1%}" for share in shares),
                    f"{one.num_unresolved:.2f}",
                    f"{one.least_mean_is_best:.1%}",
                    f"{one.regret:.5f}",
                )
            )
    return table(heading, rows)


def _null_table(horizons: list[Horizon], subsets: int) -> str:
    rows = []
    for horizon in horizons:
        for gaussian, name in ((False, "as measured"), (True, "Gaussian")):
            rngs = [np.random.default_rng([1, gaussian, horizon.updates, n]) for n in SEEDS]
            false = [
                replay_null(horizon, n, rng, gaussian=gaussian, subsets=subsets)
                for n, rng in zip(SEEDS, rngs, strict=True)
            ]
            rows.append((str(horizon.updates), name, *(_share(count, subsets) for count in false)))
    return table(("updates", "noise", *(f"false winners, {n} seeds" for n in SEEDS)), rows)


def _share(count: int, subsets: int) -> str:
    from scipy.stats import binomtest

    share = f"{count / subsets:.1%}"
    return f"**{share}**" if binomtest(count, subsets, ALPHA, "greater").pvalue < 0.01 else share


def _pooled(one: Pooled, places: int) -> str:
    return f"{one.value:.{places}f} {_ends(one.interval, places)}"


def _ends(interval: tuple[float, float] | None, places: int) -> str:
    return "" if interval is None else f"[{interval[0]:.{places}f}, {interval[1]:.{places}f}]"


def _listing(numbers: list[int]) -> str:
    told = [str(number) for number in numbers]
    return " and ".join([", ".join(told[:-1]), told[-1]]) if len(told) > 1 else told[0]
