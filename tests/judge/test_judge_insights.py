"""docs/insights.md and what is produced agree, both ways."""

import re
import typing
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from blueberry.judge.curves import read_curves
from blueberry.judge.evidence import ArmRuns, Evidence
from blueberry.judge.judgement import Judgement
from blueberry.judge.judging import weigh
from blueberry.recipe import Recipe
from blueberry.study.synthetic import Synthetic

DOC = Path(__file__).parents[2] / "docs" / "insights.md"


OPTIONAL_RECORDS = {
    "axis", "axis_answer", "axis_answer.conservative", "axis_answer.fast", "best", "detectable", "located", "pooled", "stack", "valley", "laws[].held_out", "robustness", "robustness.stable_to", "robustness.unstable_from",
}  # fmt: skip


def documented() -> set[str]:
    return set(re.findall(r"^\| `([a-z_.\[\]]+)` \| (?!block|warn)", DOC.read_text(), re.MULTILINE))


def declared(model: type[BaseModel], prefix: str = "") -> set[str]:
    """Paths of the leaves, `[]` where there are several; and optional records themselves."""
    found = set()
    for name, field in model.model_fields.items():
        path = prefix + name
        kinds = [field.annotation, *typing.get_args(field.annotation)]
        kinds += [inner for kind in kinds for inner in typing.get_args(kind)]
        records = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if Judgement in records:
            records = []  # a part's own: all of this again
        many = typing.get_origin(field.annotation) is tuple and records
        for record in records:
            found |= declared(record, f"{path}[]." if many else f"{path}.")
        if not records:
            found.add(path)
    return found


def paths(value: Any, prefix: str = "") -> set[str]:
    if isinstance(value, dict) and not prefix.endswith("settings"):
        return set().union(*(paths(item, f"{prefix}.{name}" if prefix else name) for name, item in value.items()))
    if value == []:
        return set()
    if isinstance(value, list) and isinstance(value[0], dict):
        return set().union(*(paths(item, f"{prefix}[]") for item in value))
    return {prefix}


def test_every_field_is_documented_and_the_other_way_round():
    assert documented() - OPTIONAL_RECORDS == declared(Judgement) | {"schema"}


def test_what_is_produced_is_documented():
    rates = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32]
    rng = np.random.default_rng(0)
    arms = tuple(
        ArmRuns(
            str(rate),
            {"lr": rate},
            {seed: float(3 + np.log(rate / 0.05) ** 2 + 0.01 * rng.normal()) for seed in range(3)},
        )
        for rate in rates
    )
    run = Synthetic().result(Recipe())
    findings = read_curves(arms[0].name, {0: run, 1: run}, alpha=0.05)
    evidence = Evidence("q", "val_loss", 0.01, 0.05, ("lr",), arms, findings=findings)
    produced = paths(weigh(evidence).to_dict())
    assert {
        "optimum.interval",
        "best.mean",
        "recommendation.text",
        "verdicts[].interval",
        "findings[].pattern",
    } <= produced
    assert produced <= documented()
