"""Decides the races of studies, for their plans."""

from typing import Any

from blueberry.judge import race
from blueberry.judge.evidence import BASELINE
from blueberry.study.plan import Referee, Values
from blueberry.study.spec import Study


def open_arms(study: Study, values: Values) -> tuple[str, ...]:
    """The arms that need more seeds: those that may be the best or, of named arms, those undecided against the
    unchanged one."""
    return race.open_arms(values, **_rules(study))


def leading_arm(study: Study, values: Values) -> str | None:
    """The arm to confirm; None if every one diverged."""
    return race.leading_arm(values, **_rules(study))


def _rules(study: Study) -> dict[str, Any]:
    return {
        "alpha": study.alpha,
        "min_effect": study.min_effect,
        "search": study.seeds.search,
        "maximum": study.seeds.max,
        "baseline": BASELINE if study.arms[0].name == BASELINE else None,
    }


REFEREE = Referee(open_arms, leading_arm)
