"""The doctor on simulated tables of runs: clean ones, and the same with one defect planted.

A table is what somebody would bring: one row a run, with the columns that people keep. Findings are those of the
audits that a judgement carries. Audits of designs, of our own runs' internals and of written reports need more than
a table; they have planted defects and clean twins in tests/judge/audits.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import blueberry

Rows = list[dict[str, Any]]
RATE = "learning_rate"
STEP = 2**0.5
VOCABULARY = 4096
FRESH_SEEDS = (50, 51, 52)
MIN_EFFECT = 0.002
"""Stated for every table; none scatters by so little that this is far above it."""


def clean_rows(rng: np.random.Generator, *, study: str = "one", optimum: float | None = None) -> Rows:
    """A sweep without a defect: 9 to 13 rates, 3 to 5 seeds, its best rate near the middle and clear of the noise.

    The best rate of the search has three fresh seeds. `optimum` in steps from the middle; None draws it.
    """
    num_rates, num_seeds = int(rng.integers(9, 14)), int(rng.integers(3, 6))
    middle = rng.uniform(0.01, 0.1)
    rates = [float(f"{middle * STEP ** (k - (num_rates - 1) / 2):.3g}") for k in range(num_rates)]
    at = (rng.uniform(-1, 1) if optimum is None else optimum) * math.log(STEP)
    curvature, ratio = rng.uniform(0.03, 0.06), rng.choice([1.0, 2.0, 3.0])
    sd, rho, floor = rng.uniform(0.001, 0.004), rng.uniform(0, 0.9), rng.uniform(2.5, 4.5)
    pace = rng.uniform(50, 70)

    def expected(rate: float) -> float:
        u = math.log(rate / middle) - at
        return floor + curvature * (ratio if u > 0 else 1.0) * u**2

    def block(seed: int, stage: str, chosen: list[float]) -> Rows:
        shared = rho**0.5 * rng.standard_normal()
        losses = [expected(rate) + sd * (shared + (1 - rho) ** 0.5 * rng.standard_normal()) for rate in chosen]
        return [_row(rng, rate, seed, stage, loss, pace, study) for rate, loss in zip(chosen, losses, strict=True)]

    rows = [row for seed in range(num_seeds) for row in block(seed, "search", rates)]
    best = best_rate(rows)
    return rows + [row for seed in FRESH_SEEDS for row in block(seed, "confirm", [best])]


def _row(
    rng: np.random.Generator, rate: float, seed: int, stage: str, loss: float, pace: float, study: str
) -> dict[str, Any]:
    return {
        RATE: rate,
        "seed": seed,
        "stage": stage,
        "status": "completed",
        "val_loss": loss,
        "val_accuracy": math.exp(-loss / 2),
        "val_perplexity": math.exp(loss),
        "train_loss": loss - 0.05,
        "test_loss": loss + 0.01,
        "updates": 1000,
        "tokens": 10**6,
        "flops": 1e15,
        "train_seconds": pace * rng.uniform(0.98, 1.02),
        "vocabulary": VOCABULARY,
        "eval_hash": "e",
        "study": study,
    }


def best_rate(rows: Rows) -> float:
    """Of least mean in the search."""
    rates = sorted({row[RATE] for row in rows})
    return min(rates, key=lambda rate: np.mean([r["val_loss"] for r in rows if r[RATE] == rate]))


def _where(rows: Rows, chosen: Callable[[dict[str, Any]], bool], **changed: Any) -> Rows:
    return [{**row, **changed} if chosen(row) else row for row in rows]


def _highest(rows: Rows) -> Callable[[dict[str, Any]], bool]:
    above = sorted({row[RATE] for row in rows})[-3]
    return lambda row: row[RATE] >= above


def _shifted(rows: Rows, by: float) -> Rows:
    """Losses lower by that much; perplexities follow."""
    return [{**row, "val_loss": row["val_loss"] - by, "val_perplexity": math.exp(row["val_loss"] - by)} for row in rows]


def edge(rng: np.random.Generator) -> Rows:
    return clean_rows(rng, optimum=float(rng.choice([-1, 1]) * rng.uniform(7, 9)))


def two_seeds(rng: np.random.Generator) -> Rows:
    return [row for row in clean_rows(rng) if row["seed"] in (0, 1)]


def one_seed_repeated(rng: np.random.Generator) -> Rows:
    return [{**row, "seed": 0} for row in clean_rows(rng) if row["stage"] == "search"]


def dead_knob(rng: np.random.Generator) -> Rows:
    rows = clean_rows(rng)
    low, other = sorted({row[RATE] for row in rows})[:2]
    losses = {row["seed"]: row["val_loss"] for row in rows if row[RATE] == low and row["stage"] == "search"}
    return [
        {**row, "val_loss": losses[row["seed"]], "val_perplexity": math.exp(losses[row["seed"]])}
        if row[RATE] == other and row["seed"] in losses
        else row
        for row in rows
    ]


def guessing(rng: np.random.Generator) -> Rows:
    """A rate that ends above the loss of guessing, and counts as completed."""
    rows, above = clean_rows(rng), math.log(VOCABULARY) + rng.uniform(0.1, 3)
    top = max(row[RATE] for row in rows)
    return _where(rows, lambda r: r[RATE] == top, val_loss=above, val_perplexity=math.exp(above), train_loss=above)


def diverged_when_confirmed(rng: np.random.Generator) -> Rows:
    return _where(
        clean_rows(rng),
        lambda row: row["stage"] == "confirm" and row["seed"] == FRESH_SEEDS[0],
        status="diverged",
        val_loss=math.inf,
        val_perplexity=None,
        val_accuracy=None,
    )


def unfinished(rng: np.random.Generator) -> Rows:
    rows = clean_rows(rng)
    lost = int(rng.integers(len(rows) - len(FRESH_SEEDS)))
    nothing = dict.fromkeys(("val_loss", "val_perplexity", "val_accuracy", "train_loss", "test_loss"))
    return [{**row, **nothing, "status": "running"} if i == lost else row for i, row in enumerate(rows)]


def impossible_loss(rng: np.random.Generator) -> Rows:
    rows = clean_rows(rng)
    return _shifted(rows, min(row["val_loss"] for row in rows) - 0.05)


def impossible_accuracy(rng: np.random.Generator) -> Rows:
    return [{**row, "val_accuracy": 0.95} for row in clean_rows(rng)]


def next_token_seen(rng: np.random.Generator) -> Rows:
    return [{**row, "val_accuracy": 0.9973} for row in clean_rows(rng)]


def held_out_known_by_heart(rng: np.random.Generator) -> Rows:
    rows = clean_rows(rng)
    low = _shifted(rows, min(row["val_loss"] for row in rows) - 0.4)
    return [{**row, "train_loss": row["val_loss"] + 0.3} for row in low]


def other_evaluation(rng: np.random.Generator) -> Rows:
    rows = clean_rows(rng)
    return _where(rows, _highest(rows), eval_hash="f")


def more_tokens(rng: np.random.Generator) -> Rows:
    rows = clean_rows(rng)
    return _where(rows, _highest(rows), tokens=int(10**6 * rng.uniform(1.05, 2)))


def more_updates(rng: np.random.Generator) -> Rows:
    rows = [{name: value for name, value in row.items() if name != "tokens"} for row in clean_rows(rng)]
    return _where(rows, _highest(rows), updates=int(1000 * rng.uniform(1.05, 2)))


def another_study(rng: np.random.Generator) -> Rows:
    """The same rates twice, the second time .1 nats better: something else changed."""
    rows = clean_rows(rng)
    again = [{**row, "study": "two", "seed": row["seed"] + 100} for row in _shifted(rows, 0.1)]
    jitter = [row["val_loss"] + 0.001 * rng.standard_normal() for row in again]
    return rows + [
        {**row, "val_loss": loss, "val_perplexity": math.exp(loss)} for row, loss in zip(again, jitter, strict=True)
    ]


def capped_perplexity(rng: np.random.Generator) -> Rows:
    rows = clean_rows(rng)
    cap = float(np.median([row["val_perplexity"] for row in rows]))
    return [{**row, "val_perplexity": min(row["val_perplexity"], cap)} for row in rows]


DEFECTS: dict[str, tuple[Callable[[np.random.Generator], Rows], str]] = {
    "best rate beyond the range": (edge, "edge"),
    "two seeds": (two_seeds, "seeds"),
    "one seed, several times": (one_seed_repeated, "seeds"),
    "two rates that are one run": (dead_knob, "dead-knob"),
    "worse than guessing, and a success": (guessing, "diverged"),
    "the winner diverges on a fresh seed": (diverged_when_confirmed, "diverged"),
    "a run that never ended": (unfinished, "diverged"),
    "a loss that no text allows": (impossible_loss, "too-good"),
    "an accuracy that no text allows": (impossible_accuracy, "too-good"),
    "the next token is seen": (next_token_seen, "future"),
    "held-out text known by heart": (held_out_known_by_heart, "leak"),
    "two evaluation sets": (other_evaluation, "eval-set"),
    "some rates get more tokens": (more_tokens, "budget"),
    "some rates get more updates": (more_updates, "budget"),
    "the same rates, another result": (another_study, "drift"),
    "capped perplexities": (capped_perplexity, "arithmetic"),
}
"""Name -> how it is planted, and the audit that has to block."""


def findings(rows: Rows) -> set[tuple[str, str]]:
    """(audit, severity) of everything the doctor says of a table."""
    return {(one.audit, one.severity) for one in blueberry.analyse(rows, vary=[RATE], min_effect=MIN_EFFECT).audits}
