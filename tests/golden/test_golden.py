"""Nothing that is frozen has changed. `python -m tests.golden` writes it anew; argue for what changes."""

import json
import os
from pathlib import Path

import pytest

from tests.golden.entry import doctor
from tests.golden.files import FOLDER, documents, make, names, needs
from tests.golden.studies import STUDIES

SHARED = Path(os.environ.get("BLUEBERRY_DOCUMENTS") or FOLDER / "none")


@pytest.mark.parametrize("name", names())
def test_nothing_frozen_has_changed(name: str) -> None:
    if needs(name):
        pytest.skip(f"needs {needs(name)}")
    for file, text in make(name):
        assert text == (FOLDER / file).read_text(encoding="utf-8"), (
            f"tests/golden/{file}: python -m tests.golden {name}"
        )


@pytest.mark.skipif(not (SHARED / "seeds").is_dir(), reason="the published reports are not here")
def test_the_published_reports_are_told_what_they_were() -> None:
    assert documents(SHARED) == (FOLDER / "documents.txt").read_text(encoding="utf-8")


def test_our_own_reports_of_sound_studies_are_not_accused() -> None:
    """What we write is what we audit."""
    for name, planted in STUDIES.items():
        if planted.is_sound:
            audits = json.loads((FOLDER / f"studies/{name}.json").read_text(encoding="utf-8"))["audits"]
            assert not any(audit["severity"] == "block" for audit in audits)
            assert doctor([FOLDER / f"studies/{name}.md"]) == []


def test_our_own_report_of_runs_that_all_diverged_claims_no_best() -> None:
    assert doctor([FOLDER / "studies/sweep-all-diverge.md"]) == []


def test_a_lie_in_our_own_report_is_found(tmp_path: Path) -> None:
    text, true = (
        (FOLDER / "studies/compare-nothing-shown.md").read_text(encoding="utf-8"),
        "no change was shown to beat it.",
    )
    assert true in text
    (tmp_path / "lie.md").write_text(text.replace(true, "there is no difference."), encoding="utf-8")
    assert {audit for audit, _, _ in doctor([tmp_path / "lie.md"])} == {"null"}
