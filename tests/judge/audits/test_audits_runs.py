import json
import math
from pathlib import Path

import pytest

from blueberry.judge.evidence import ArmRuns, Evidence
from blueberry.judge.judging import weigh
from blueberry.records import Provenance

CLEAN = {"a": [3.0, 3.02, 3.05], "b": [3.21, 3.24, 3.24], "c": [3.4, 3.45, 3.42]}
BUILD = {"code_digest": "c", "torch": "2.13", "device": "cpu", "threads": 2, "lanes": 3, "data_digest": "d"}


def arms(values=CLEAN, **changes):
    """`changes`: {arm: {field: value}}."""
    return tuple(
        ArmRuns(
            name,
            {},
            dict(enumerate(runs)),
            **{"confirm": {50: 3.03, 51: 3.04} if name == "a" else {}, **changes.get(name, {})},
        )
        for name, runs in values.items()
    )


def fired(arms=None, *, vary=(), **more):
    arms = globals()["arms"]() if arms is None else arms
    judged = weigh(Evidence("q", "val_loss", 0.01, 0.05, vary, arms, **more))
    blocked = any(audit.severity == "block" for audit in judged.audits)
    assert (judged.recommendation.withheld is not None) == blocked
    return {(audit.audit, audit.severity) for audit in judged.audits}


def build(**changes):
    return (Provenance(evaluation_digest="e", **BUILD).model_copy(update=changes),)


def test_a_clean_study_passes():
    same = {name: {"provenance": build()} for name in CLEAN}
    assert fired(arms(**same), guessing_loss=7.0, entropy=1.0, passes=0.9) == set()


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"a": [3.0, 3.1], "b": [3.2, 3.3]}, "seeds"),
        ({"a": [3.0] * 3, "b": [3.2] * 3}, "seeds"),
        ({"a": [3.01, 3.02, 3.03], "b": [3.01, 3.02, 3.03]}, "dead-knob"),
        ({"a": [3.01234567], "b": [3.01234567]}, "dead-knob"),
    ],
)
def test_blocks_that_the_values_show(values, name):
    assert (name, "block") in fired(arms(values))


def test_equal_rounded_values_on_one_seed_are_no_dead_knob():
    assert ("dead-knob", "block") not in fired(arms({"a": [3.01], "b": [3.01]}))


@pytest.mark.parametrize(
    ("evidence", "name", "severity"),
    [
        ({"repeated_seeds": ("a",)}, "seeds", "block"),
        ({"num_unfinished": 1}, "diverged", "block"),
        ({"guessing_loss": 3.01}, "diverged", "block"),
        ({"guessing_loss": 3.3, "states_success": True}, "diverged", "block"),
        ({"entropy": 3.3}, "too-good", "block"),
        ({"passes": 1.5}, "passes", "warn"),
    ],
)
def test_findings_that_the_evidence_shows(evidence, name, severity):
    assert fired(**evidence) == {(name, severity)}


def test_a_rate_that_is_merely_unstable_blocks_nothing():
    assert fired(guessing_loss=3.3) == set()


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"crashed": (7,)}, "diverged"),
        ({"provenance": build(evaluation_digest="other")}, "eval-set"),
        ({"provenance": build(code_digest="other")}, "drift"),
        ({"provenance": build(torch="other")}, "drift"),
        ({"provenance": build(device="other")}, "drift"),
        ({"provenance": build(precision="bf16")}, "drift"),
    ],
)
def test_blocks_that_one_arm_shows(change, name):
    changes = {other: {"provenance": build(precision="fp32")} for other in CLEAN}
    changes["b"] = {"provenance": build(precision="fp32"), **change}
    assert fired(arms(**changes)) == {(name, "block")}


def test_precision_is_no_drift_where_it_is_the_question_or_nobody_said():
    differing = {"a": {"provenance": build(precision="fp32")}, "b": {"provenance": build(precision="bf16")}}
    assert fired(arms(**differing), vary=("train.precision",)) == set()
    assert fired(arms(a={"provenance": build()}, b={"provenance": build(precision="bf16")})) == set()


def test_other_lanes_are_no_drift():
    changes = {"a": {"provenance": build(lanes=1)}, "b": {"provenance": build(lanes=8)}}
    assert fired(arms(**changes)) == set()


def test_a_best_arm_that_diverges_on_fresh_seeds_blocks():
    assert fired(arms(a={"confirm": {50: 3.0, 51: math.inf}})) == {("diverged", "block")}


def on_axis(values, setting="model.dropout"):
    return tuple(
        ArmRuns(str(value), {setting: value}, dict(enumerate(runs)), confirm={9: runs[0], 10: runs[1]})
        for value, runs in values.items()
    )


BEST_FIRST = ([3.0, 3.02, 3.05], [3.21, 3.24, 3.24], [3.4, 3.45, 3.42])


def test_zero_is_where_a_setting_ends_and_not_an_edge():
    vary = ("model.dropout",)
    assert fired(on_axis(dict(zip((0.0, 0.1, 0.2), BEST_FIRST, strict=True))), vary=vary) == set()
    assert fired(on_axis(dict(zip((0.1, 0.2, 0.3), BEST_FIRST, strict=True))), vary=vary) == {("edge", "block")}
    assert fired(on_axis(dict(zip((0.0, 0.1, 0.2), BEST_FIRST[::-1], strict=True))), vary=vary) == {("edge", "block")}


def test_two_values_are_a_comparison_and_have_no_edge():
    assert fired(on_axis(dict(zip((0.1, 0.2), BEST_FIRST[:2], strict=True))), vary=("model.dropout",)) == set()


def test_an_edge_in_one_axis_of_a_grid():
    grid = tuple(
        ArmRuns(f"{kind},{rate}", {"kind": kind, "lr": rate}, dict(enumerate(v + 0.3 * (kind == "x") for v in runs)))
        for kind in ("x", "y")
        for rate, runs in zip((0.3, 0.1, 0.2), BEST_FIRST, strict=True)
    )
    assert ("edge", "block") in fired(grid, vary=("kind", "lr"))


def test_the_published_sweep_supports_nothing(tmp_path):
    """The shape of a published table: many rates, one seed, the best inside, a "success" above guessing."""
    losses = {0.01: 7.119335, 0.03: 6.2, 0.065: 5.895281, 0.075: 5.900412, 0.1: 6.01, 0.5: 10.95}
    table = tuple(ArmRuns(str(rate), {"learning_rate": rate}, {0: loss}) for rate, loss in losses.items())
    evidence = Evidence("q", "val_loss", 0.005, 0.05, ("learning_rate",), table)
    judged = weigh(evidence)
    assert "0.065 has the least val_loss" in judged.known
    assert "nothing separates it from the other 5 arms" in judged.known
    assert judged.recommendation.settings is None
    assert (judged.recommendation.withheld or "").startswith("seeds:")
    claimed = Evidence(
        "q", "val_loss", 0.005, 0.05, ("learning_rate",), table, states_success=True, guessing_loss=math.log(49152)
    )
    assert ("diverged", "block") in {(a.audit, a.severity) for a in weigh(claimed).audits}


def test_the_documentation_names_every_audit():
    import re

    from blueberry.judge.audits import AUDITS

    text = (Path(__file__).parents[3] / "docs" / "insights.md").read_text()
    rows = re.findall(r"^\| `([a-z-]+)` \| (?:block|warn|block, warn) \|", text, re.MULTILINE)
    assert set(rows) == set(AUDITS)


def test_messages_are_one_line_and_remedies_are_there():
    judged = weigh(Evidence("q", "val_loss", 0.01, 0.05, (), arms({"a": [3.0], "b": [3.0]}), num_unfinished=2))
    for audit in judged.audits:
        assert "\n" not in json.loads(json.dumps(audit.message + audit.remedy))
        assert audit.remedy


def remedy(rates, reach=None):
    """Of a best at the largest of these rates."""
    losses = [3.0 + 0.1 * place for place in range(len(rates))][::-1]
    table = tuple(
        ArmRuns(str(rate), {"lr": rate}, {s: loss + 0.001 * s * (1 + loss % 1) for s in range(3)}, confirm={9: 3.0})
        for rate, loss in zip(rates, losses, strict=True)
    )
    judged = weigh(Evidence("q", "val_loss", 0.01, 0.05, ("lr",), table, reach=reach or {}))
    (found,) = [audit for audit in judged.audits if audit.audit == "edge"]
    assert f"{rates[-1]:.4g}, is the largest tried" in found.message
    return found.remedy


def test_a_range_is_extended_by_two_of_its_steps():
    assert remedy([0.01, 0.02, 0.04, 0.08]) == "extend lr up to 0.32"
    assert remedy([0.001, 0.02, 0.04, 0.08]) == "extend lr up to 0.32", "one gap decides nothing"


def test_values_proposed_from_a_range_are_no_grid():
    """Six of [0.003, 0.3] by chance: the last two lie a factor of 5.6 apart, and the range goes on."""
    proposed = [0.0039, 0.0041, 0.0376, 0.0390, 0.0409, 0.2279]
    said = remedy(proposed, {"lr": (0.003, 0.3)})
    assert said == "propose more values, up to 0.3; if the end stays the best, extend lr up to 1.893"
    assert remedy([*proposed[:-1], 0.3], {"lr": (0.003, 0.3)}) == "extend lr up to 1.893"
