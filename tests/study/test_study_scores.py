"""What a plan reads of a run is what the whole result says, by every metric."""

import sqlite3
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blueberry.errors import StoreError
from blueberry.records import MEASURED, Curve, Metrics, RunResult
from blueberry.study.kept import Kept
from blueberry.study.scores import Score
from blueberry.study.store import Store

NAMES = ("a", "wiki.de", 'it"s', "ä", "loss")
METRICS = (
    *(f"{which}_{what}" for which in ("val", "test") for what in MEASURED),
    *(f"sets.{name}.{what}" for name in NAMES for what in MEASURED),
    *NAMES, "train_loss", "train_seconds", "val_nothing", "sets.a.nothing",
)  # fmt: skip

numbers = st.floats(allow_nan=False, allow_infinity=False)
measured = st.builds(
    Metrics,
    loss=numbers,
    bits_per_byte=st.none() | numbers,
    accuracy=st.none() | numbers,
    num_tokens=st.none() | st.integers(0, 2**40),
)
results = st.builds(
    RunResult,
    fingerprint=st.just(""),
    recipe=st.just({"seed": 0}),
    status=st.just("completed"),
    final=st.none() | measured,
    test=st.none() | measured,
    sets=st.dictionaries(st.sampled_from(NAMES), measured, max_size=2),
    extra=st.dictionaries(st.sampled_from(METRICS), st.none() | numbers, max_size=4),
    curve=st.builds(Curve, train_loss=st.lists(st.none() | numbers, max_size=3).map(tuple)),
    train_seconds=numbers,
)


@pytest.fixture
def store(tmp_path: Path):
    with Store.open(tmp_path) as store:
        yield store


numbered = count()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(result=results)
def test_a_score_is_the_metric_of_the_whole_result(store: Store, result: RunResult) -> None:
    kept = result.model_copy(update={"fingerprint": f"{next(numbered):016x}"})
    store.commit(kept)
    for metric in METRICS:
        (score,) = store.scores([kept.fingerprint], metric).values()
        assert score == Score("completed", metric, kept.metric(metric)), metric
        assert score.metric(metric) == kept.metric(metric)


def committed(store: Store, name: str, **more: object) -> RunResult:
    given = {"status": "completed", "extra": {"mine": 1.5, "val_loss": 7.0}, **more}
    result = RunResult(fingerprint=name, recipe={"seed": 0}, **given)  # pyright: ignore
    store.commit(result)
    return result


def test_a_diverged_run_has_no_value_and_an_unknown_one_no_score(store: Store) -> None:
    committed(store, "a" * 16, status="diverged")
    names = ["a" * 16, "b" * 16]
    for metric in ("val_loss", "mine"):
        assert store.scores(names, metric) == {"a" * 16: Score("diverged", metric, None)}


def test_a_loss_that_is_only_a_further_metric_is_found(store: Store) -> None:
    committed(store, "a" * 16)
    assert store.scores(["a" * 16], "val_loss")["a" * 16].value == 7.0


def test_a_damaged_result_is_one_clear_line(store: Store) -> None:
    committed(store, "a" * 16)
    with sqlite3.connect(store.path) as sql:
        sql.execute("UPDATE results SET body = substr(body, 1, 40)")
    sql.close()
    with pytest.raises(StoreError, match="damaged; restore the store from a copy"):
        store.scores(["a" * 16], "mine")


def test_another_metric_than_was_read_is_our_own_bug() -> None:
    with pytest.raises(AssertionError, match="by its metric"):
        Score("completed", "val_loss", 3.0).metric("mine")


def test_kept_results_are_those_of_the_store_and_those_beside(store: Store) -> None:
    one, two = committed(store, "a" * 16), committed(store, "b" * 16, status="diverged")
    failed = RunResult(fingerprint="c" * 16, recipe={}, status="failed")
    kept = Kept(store, ["a" * 16, "b" * 16], {"c" * 16: failed})
    assert kept == {"a" * 16: one, "b" * 16: two, "c" * 16: failed}
    assert set(kept) == {name * 16 for name in "abc"}
    committed(store, "d" * 16)
    assert kept.get("d" * 16) is None, "only those that were asked for"
