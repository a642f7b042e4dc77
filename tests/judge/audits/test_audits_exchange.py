"""Arms of unlike length: what the updates that some have more are worth stands in the audit."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from blueberry.judge.audits.comparisons import _exchange


def measured(goal: str = "minimize", slopes: tuple[float, ...] = (0.004, 0.0045, 0.005)) -> Any:
    curves = [tuple((u, 3 - slope * u / 100) for u in range(100, 1001, 100)) for slope in slopes]
    arm = SimpleNamespace(evaluations=dict(enumerate(curves)))
    evidence = SimpleNamespace(goal=goal, alpha=0.05, metric="val_loss", arms=[arm])
    return cast(Any, SimpleNamespace(evidence=evidence))


def test_the_exchange_is_named_with_its_interval():
    said = _exchange(measured(), {"updates": (600, 1000)})
    assert said == (
        "; near the end of 3 curves 100 updates are 0.0045 nats [0.0033, 0.0057], so length alone may make 0.018"
    )


@pytest.mark.parametrize("other", [{"tokens": (1, 2)}, {}])
def test_without_updates_that_differ_nothing_is_exchanged(other):
    assert _exchange(measured(), other) == ""


def test_where_curves_rise_or_there_is_one_nothing_is_exchanged():
    assert _exchange(measured("maximize"), {"updates": (600, 1000)}) == ""
    assert _exchange(measured(slopes=(-0.01, -0.01)), {"updates": (600, 1000)}) == ""
    assert _exchange(measured(slopes=(0.01,)), {"updates": (600, 1000)}) == ""
