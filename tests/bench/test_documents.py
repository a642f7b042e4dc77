"""The page on the documents: every claim is read off a study that ships, and nothing is said of what has not run."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from bench.documents.__main__ import DOCTOR, STUDIES
from bench.documents.claims import CLAIMS, Claim, Shown, held_against
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


def test_claims_stand_in_the_order_of_the_page() -> None:
    assert [claim.document for claim in CLAIMS] == sorted(claim.document for claim in CLAIMS)


def claim_of(words: str) -> Claim:
    return next(claim for claim in CLAIMS if words in claim.says)


def read_of(words: str, measured: Mapping[str, Measured], **changed: object) -> Shown:
    """What a claim says of its study's judgement with some of it changed."""
    claim = claim_of(words)
    found = measured[claim.study]
    return claim.read(replace(found, judgement=found.judgement.model_copy(update=changed)))


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (-0.09, 0.09, "cannot be told at this size"),  # the number lies within, as any would
        (-0.01, 0.01, "holds"),
        (0.01, 0.10, "does not hold"),
        (-0.10, -0.03, "cannot be told at this size"),
    ],
)
def test_a_number_is_confirmed_only_by_seeds_that_agree_within_what_matters(
    synthetic: dict[str, Measured], low: float, high: float, outcome: str
) -> None:
    best = synthetic["003-search"].judgement.best
    assert best is not None
    around = {"interval": (best.search_mean + low, best.search_mean + high), "confirmed": True, "test_mean": 4.0}
    said, found = read_of("is confirmed by", synthetic, best=best.model_copy(update=around))
    assert found == outcome
    assert "other text" in said


def test_few_runs_without_a_sign_do_not_show_that_training_is_stable(synthetic: dict[str, Measured]) -> None:
    arms = synthetic["002-rates"].judgement.arms
    highest = arms[-1].model_copy(update={"n": 1, "num_diverged": 0, "num_crashed": 0, "mean": 5.0})
    said, outcome = read_of("breaks down", synthetic, arms=(*arms[:-1], highest), findings=())
    assert "no such sign, 1 run" in said
    assert outcome == "cannot be told at this size"
    many = highest.model_copy(update={"n": 3})
    assert read_of("breaks down", synthetic, arms=(many,), findings=())[1] == "does not hold"
    failed = highest.model_copy(update={"n": 3, "num_diverged": 3, "mean": float("inf")})
    assert read_of("breaks down", synthetic, arms=(failed,), findings=())[1] == "holds"


def test_what_a_warmup_does_is_read_at_the_floor_that_the_document_had() -> None:
    assert claim_of("as there: with a floor of 5%").study == "004-schedule"
    baseline = Study.load(STUDIES / "004-schedule-small.toml").arms[0].recipe
    assert baseline.get("schedule.floor_fraction") == 0.05


def test_two_changes_are_held_against_their_own_sum_seed_by_seed(synthetic: dict[str, Measured]) -> None:
    said, outcome = read_of("accumulation and dropout exceed", synthetic)
    assert said.startswith("both together, beyond the sum of each alone: ")
    assert said.endswith("3 seeds")
    assert outcome == "cannot be told at this size"  # the synthetic loss knows of neither


def test_a_leak_is_told_by_the_interval_of_its_gap(synthetic: dict[str, Measured]) -> None:
    claim = claim_of("no sign of overfitting")
    said, outcome = claim.read(synthetic[claim.study])
    assert outcome == "cannot be told at this size"  # the synthetic loss is the same under both splits
    found = synthetic[claim.study]
    kept = tuple(run for run in found.runs if run.part != found.judgement.parts[1].name)
    said, outcome = claim.read(replace(found, runs=kept))
    assert "was not measured under both splits" in said
    assert outcome == "cannot be told at this size"


def test_the_page_adds_up_only_what_was_measured_alone(synthetic: dict[str, Measured]) -> None:
    written = page(synthetic, AUDITS, ())
    assert "| on average |" in written
    assert "| alone |" not in written
    num_runs = len({run.result.fingerprint for found in synthetic.values() for run in found.runs})
    assert f"({num_runs} runs here" in written
