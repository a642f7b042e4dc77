"""Rows of runs trained elsewhere: each planted defect is found by its audit, and the clean twin is quiet."""

import math
import random

import pytest

from blueberry.judge.audits import audit, is_in_order, rank_correlation
from blueberry.judge.evidence import measure
from blueberry.judge.studies import gather_table
from blueberry.tables.reading import table_of
from blueberry.tables.runs import table_runs

RATES = [0.01, 0.014, 0.02, 0.028, 0.04, 0.056, 0.08, 0.11]


def rows(table=0, **more):
    """A clean table: eight rates on five seeds, three fresh ones for the best. `more`: column -> value or function."""
    draw = random.Random(table)
    made = []
    for stage, rates, seeds in (("search", RATES, range(5)), ("confirm", [0.028], range(50, 53))):
        for block in seeds:
            shared = draw.gauss(0, 0.003)
            for rate in rates:
                loss = 3 + 0.1 * math.log(rate / 0.028) ** 2 + shared + draw.gauss(0, 0.002)
                row = {
                    "learning_rate": rate,
                    "seed": block,
                    "stage": stage,
                    "val_loss": loss,
                    "val_accuracy": math.exp(-loss / 2),
                    "val_perplexity": math.exp(loss),
                    "train_loss": loss - 0.05,
                    "test_loss": loss + 0.01,
                    "updates": 1000,
                    "tokens": 10**6,
                    "flops": 1e15,
                    "train_seconds": draw.uniform(58, 63),
                    "vocabulary": 4096,
                    "eval_hash": "e",
                    "study": "one",
                }
                made.append({**row, **{name: v(row) if callable(v) else v for name, v in more.items()}})
    return made


def names(given, vary=("learning_rate",)):
    found = audit(measure(gather_table(table_runs(table_of(given), vary))))
    return {(finding.audit, finding.severity) for finding in found}


@pytest.mark.parametrize("num_tables", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_clean_tables_are_quiet(num_tables):
    assert sum(bool(names(rows(table))) for table in range(num_tables)) <= 0.05 * num_tables


def high(row):
    return row["learning_rate"] > 0.04


DEFECTS = {
    "a capped perplexity": ({"val_perplexity": lambda row: min(row["val_perplexity"], 20.2)}, "arithmetic", "block"),
    "more tokens": ({"tokens": lambda row: 2 * 10**6 if high(row) else 10**6}, "budget", "block"),
    "more updates": ({"tokens": None, "updates": lambda row: 1011 if high(row) else 1000}, "budget", "block"),
    "more FLOPs only": ({"flops": lambda row: 2e15 if high(row) else 1e15}, "budget", "warn"),
    "other tokens to evaluate on": ({"eval_hash": lambda row: "f" if high(row) else "e"}, "eval-set", "block"),
    "a loss that no text allows": ({"val_loss": lambda row: row["val_loss"] - 2.9, "val_perplexity": None}, "too-good", "block"),
    "an accuracy that no text allows": ({"val_accuracy": 0.95}, "too-good", "block"),
    "the next token seen": ({"val_accuracy": 0.9973}, "future", "block"),
    "held out better than memorised": (
        {"val_loss": lambda row: row["val_loss"] - 2.5, "train_loss": lambda row: row["val_loss"] - 2.2, "val_perplexity": None},
        "leak",
        "block",
    ),
    "the most frequent token": ({"val_accuracy": lambda row: 0.0157 if row["learning_rate"] in (0.028, 0.11) else 0.3}, "trivial", "warn"),
    "times along the rates": ({"train_seconds": lambda row: 60 - 100 * row["learning_rate"]}, "clock", "warn"),
    "above guessing and a success": ({"status": "completed", "vocabulary": 21}, "diverged", "block"),
}  # fmt: skip


@pytest.mark.parametrize("name", DEFECTS)
def test_planted_defects_are_found(name):
    planted, audit_name, severity = DEFECTS[name]
    assert (audit_name, severity) in names(rows(**planted))


def test_one_arm_in_two_studies():
    first, second = rows(), rows(1, study="two", seed=lambda row: row["seed"] + 100)
    assert ("drift", "block") not in names(first + second)
    drifted = rows(
        1,
        study="two",
        seed=lambda row: row["seed"] + 100,
        val_loss=lambda row: row["val_loss"] + 0.1,
        val_perplexity=None,
    )
    assert ("drift", "block") in names(first + drifted)


def test_what_varies_may_differ():
    varied = [{**row, "updates": round(row["learning_rate"] * 1e5)} for row in rows()]
    assert ("budget", "block") not in names(varied, vary=("updates",))
    batches = [
        {"batch_size": 8 * (1 + row["seed"] % 2), "val_loss": row["val_loss"], "seed": row["seed"] // 2}
        for row in rows()
    ]
    assert ("budget", "block") in names(batches, vary=("batch_size",)), "neither updates nor tokens are known"


def test_times_in_order():
    assert rank_correlation([1, 2, 3, 4]) == pytest.approx(1)
    assert rank_correlation([4, 3, 2, 1]) == pytest.approx(-1)
    assert rank_correlation([2, 2, 2]) == 0
    assert rank_correlation([1, 3, 2, 4]) == pytest.approx(0.8)
    assert not is_in_order([10, 9, 8, 7]), "too few"
    assert not is_in_order([10 - 0.01 * n for n in range(9)]), "all the same within the clock"
    draw = random.Random(1)
    assert sum(is_in_order([draw.uniform(1, 2) for _ in range(12)]) for _ in range(1000)) <= 20
