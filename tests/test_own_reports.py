"""What we write is what we audit: the doctor reads the reports of sound studies and finds nothing in them."""

from pathlib import Path
from typing import Any

import pytest
from altair.utils.schemapi import debug_mode

from blueberry import api
from blueberry.errors import StudyError
from blueberry.judge.doctor.document import Document
from blueberry.judge.doctor.reports import audit_reports
from blueberry.report.figures import compute, pictures
from blueberry.report.page import page
from blueberry.report.templating import markdown
from blueberry.study.spec import Study
from blueberry.study.synthetic import Synthetic
from blueberry.study.templates import write_study_file
from blueberry.toml import read_toml

RECIPE = Path(__file__).parent.parent / "recipes" / "moe-nano.toml"
RATE = "optimizer.muon.learning_rate"
SHORT = {"train.updates": 120}
"""So long that a warmup is one."""
FEW = {RATE: {"log": [0.01, 0.16], "points": 5}}
RACE = {"seeds": {"search": 3, "confirm": 3, "max": 8}, "strategy": {"method": "race"}}
UNCONFIRMED = {"seeds": {"search": 3, "confirm": 0}}
LINEAR = {"optimum": 0.04, "choices": (("schedule.kind", "linear", -0.05),)}
DECAY = {"effects": (("optimizer.adamw.weight_decay", -0.5),)}
LENGTHS = {"across": {"train.updates": [120, 240, 480]}}

STUDIES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "sweep": ("sweep", {"vary": FEW}, {}),
    "sweep, unconfirmed and noisy": ("sweep", {"vary": FEW, **UNCONFIRMED}, {"noise_nats": 0.02}),
    "sweep, some arms diverge": ("sweep", {"vary": FEW}, {"diverges_above": 0.1}),
    "race": ("sweep", {"vary": FEW, **RACE}, {}),
    "race to its maximum": ("sweep", {"vary": FEW, **RACE}, {"noise_nats": 0.02}),
    "compare": ("compare", {}, DECAY),
    "compare, nothing shown": ("compare", {}, {"noise_nats": 0.1}),
    "ablation with pairs": ("ablation", {}, DECAY),
    "ablation, nothing shown": ("ablation", {}, {"noise_nats": 0.1}),
    "schedule": ("schedule", {"tune": FEW}, LINEAR),
    "schedule, nothing shown": ("schedule", {"tune": FEW}, {"optimum": 0.04, "noise_nats": 0.05}),
    "search": ("search", {"tune": FEW}, {"optimum": 0.04}),
    "horizon": ("horizon", {"vary": FEW, **LENGTHS}, {"optimum": 0.04, "moves": (("train.updates", -0.2),)}),
    "horizon, left open": ("horizon", {"vary": FEW, **LENGTHS}, {"optimum": 0.028, "noise_nats": 0.012}),
    "scaling": ("scaling", {"vary": FEW}, {"optimum": 0.04}),
}


def written(kind: str, changes: dict[str, Any], folder: Path, **truth: Any) -> tuple[api.Judged, str]:
    """The study as it was judged, and its report.md."""
    path = write_study_file(kind, RECIPE, folder / f"{kind}.toml")
    given = {**read_toml(path, StudyError), **({"set": SHORT} if "across" not in changes else {}), **changes}
    judged = api.conduct(Study.parse(given, path), store=folder / "store", trainer=Synthetic(**truth), workers=0)
    with debug_mode(False):
        shown = list(pictures(compute(judged.judgement, judged.runs)))
    return judged, markdown(page(judged.judgement, judged.runs), shown)


@pytest.mark.parametrize(("kind", "changes", "truth"), STUDIES.values(), ids=list(STUDIES))
def test_the_report_of_a_sound_study_is_not_accused(
    kind: str, changes: dict[str, Any], truth: dict[str, Any], tmp_path: Path
) -> None:
    judged, text = written(kind, changes, tmp_path, **truth)
    assert not any(audit.severity == "block" for audit in judged.judgement.audits), "the study itself is sound"
    document = Document.read("report.md", text)
    assert document.ends, "else the doctor does not look at what it claims"
    assert audit_reports([document]) == ()


def test_a_lie_in_our_own_report_is_found(tmp_path: Path) -> None:
    _, text = written("compare", {}, tmp_path)
    assert "no change was shown to beat it." in text
    lie = text.replace("no change was shown to beat it.", "there is no difference.")
    assert {audit.audit for audit in audit_reports([Document.read("report.md", lie)])} == {"null"}


def test_proposals_that_end_below_their_range_are_to_go_on_before_it_grows(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    changes = {"vary": {RATE: {"log": [0.003, 0.3]}}, "strategy": {"method": "optuna", "trials": 6, "batch": 2}}
    judged, _ = written("sweep", changes, tmp_path, optimum=0.5, diverges_above=None)
    (found,) = [audit for audit in judged.judgement.audits if audit.audit == "edge" and audit.severity == "block"]
    assert "is the largest tried" in found.message
    assert found.remedy.startswith("propose more values, up to 0.3; if the end stays the best, extend")
