"""The page on the documents: every claim is read off a study that ships, and nothing is said of what has not run."""

import json
from pathlib import Path

import pytest

from bench.documents.__main__ import DOCTOR, STUDIES
from bench.documents.claims import CLAIMS, held_against
from bench.documents.measured import NAMES, Measured, read
from bench.documents.page import TITLES, page
from blueberry import api
from blueberry.study.spec import Study
from blueberry.study.synthetic import Synthetic

AUDITS = json.loads(DOCTOR.read_text())["audits"]
SHOWN = {"holds", "does not hold", "cannot be told at this size"}


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Measured]:
    """The small forms over a trainer that computes in microseconds what training might have measured."""
    store = tmp_path_factory.mktemp("store")
    found = {}
    for name in NAMES:
        study = Study.load(STUDIES / f"{name}-small.toml")
        rate = "adamw" if name.startswith("003") else "muon"
        trainer = Synthetic(setting=f"optimizer.{rate}.learning_rate", optimum=0.065)
        judged = api.conduct(study, store=store, trainer=trainer, workers=0)
        found[name] = Measured(study, judged.judgement, judged.runs)
    return found


def test_every_small_form_is_read_and_every_claim_has_one() -> None:
    assert set(NAMES) == {path.stem.removesuffix("-small") for path in STUDIES.glob("*-small.toml")}
    assert {claim.study for claim in CLAIMS} <= set(NAMES)
    assert {claim.document for claim in CLAIMS} == set(TITLES)
    assert f"DOCUMENTS := {' '.join(NAMES[:3])}" in (STUDIES.parent.parent / "Makefile").read_text()


def test_nothing_is_said_of_what_has_not_run(tmp_path: Path) -> None:
    measured = read(STUDIES, tmp_path / "none")
    assert set(measured.values()) == {None}
    assert {outcome for _, _, outcome in held_against(measured)} == {"not yet measured"}
    written = page(measured, AUDITS, ())
    assert written.count("not yet measured") >= 2 * len(NAMES)
    assert "no baseline was promoted" in written


def test_every_claim_is_read_off_its_study(synthetic: dict[str, Measured]) -> None:
    rows = held_against(synthetic)
    assert {outcome for _, _, outcome in rows} <= SHOWN
    assert all(said for _, said, _ in rows)
    known = {claim.says: outcome for claim, _, outcome in rows}
    assert known["0.065 is far better than 0.01"] == "holds"  # whose optimum is there


def test_the_page_has_each_document_with_its_claims_and_what_the_doctor_says(synthetic: dict[str, Measured]) -> None:
    written = page(synthetic, AUDITS, ())
    for document, title in TITLES.items():
        assert f"## {document}: {title}" in written
    assert all(f"`{claim.study}-small.toml`" in written for claim in CLAIMS)
    assert "1,104 s = 18.4 minutes, printed 18.5 hours" in written
    assert "not yet measured" not in written
