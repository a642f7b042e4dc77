"""What a report says of what was trained and what was measured."""

from pathlib import Path

import pytest

from blueberry import api
from blueberry.report.page import Page, markdown
from blueberry.study.spec import Study
from blueberry.study.synthetic import Synthetic

RATE = "optimizer.muon.learning_rate"


def conducted(folder: Path, text: str) -> api.Judged:
    """A study over the synthetic trainer, and its page."""
    (folder / "tiny.toml").write_text("[model]\nwidth = 16\ndropout = 0.2\n[train]\nupdates = 60\n")
    (folder / "s.toml").write_text(f'question = "Which?"\nbase = "tiny.toml"\n{text}')
    return api.conduct(Study.load(folder / "s.toml"), store=folder / "store", trainer=Synthetic(), workers=0)


def shown(judged: api.Judged):
    return Page(judged.judgement, judged.runs, judged.study)


def test_it_says_the_base_what_every_arm_changes_and_what_was_trained(tmp_path: Path) -> None:
    judged = conducted(
        tmp_path,
        '[set]\n"train.updates" = 50\n"data.max_train_tokens" = 25600\n[arms.lower]\n'
        f'"{RATE}" = 0.03\n[seeds]\nsearch = 3\nconfirm = 2\n',
    )
    facts = {fact.label: fact for fact in shown(judged).trained}
    assert facts["Base recipe"].value == "tiny"
    assert facts["Changed in every arm"].value == "train.updates = 50, data.max_train_tokens = 25600"
    assert "width 16" in facts["Model"].value
    assert "dropout 0.2" in facts["Model"].value
    assert facts["Model"].remark.endswith("parameters")
    assert facts["Length"].value == "50 updates"
    assert facts["An update"].value == "16 sequences of 64 tokens"
    assert "max train tokens 25600" in facts["Text"].value
    assert "windows" not in facts["Text"].value
    assert "learning rate 0.03 or 0.06" in facts["Optimizer"].value
    text = markdown(shown(judged), [])
    assert "## What was trained" in text
    assert Page(judged.judgement, judged.runs).trained == ()


def test_both_values_of_a_comparison_stand_in_the_table(tmp_path: Path) -> None:
    judged = conducted(tmp_path, f'[arms.lower]\n"{RATE}" = 0.03\n[seeds]\nsearch = 3\nconfirm = 0\n')
    rows = {row.arm: row.settings for row in shown(judged).rows}
    assert rows == {"baseline": "learning_rate = 0.06", "lower": "learning_rate = 0.03"}


@pytest.mark.parametrize(
    "vary", [f'"{RATE}" = [0.03, 0.06]\n', f'"{RATE}" = [0.03, 0.06]\n"train.batch_sequences" = [8, 16]\n']
)
def test_an_arm_that_is_called_by_its_values_says_them_once(tmp_path: Path, vary: str) -> None:
    judged = conducted(tmp_path, f"[vary]\n{vary}[seeds]\nsearch = 3\nconfirm = 0\n")
    assert {row.settings for row in shown(judged).rows} == {""}


def test_accuracy_perplexity_and_time_stand_beside_the_loss(tmp_path: Path) -> None:
    judged = conducted(tmp_path, f'[vary]\n"{RATE}" = [0.01, 0.03, 0.06, 0.5]\n[seeds]\nsearch = 3\nconfirm = 0\n')
    table = next(table for table in shown(judged).tables if table.title == "What was measured")
    assert table.header[:4] == ("Arm", "Loss", "Accuracy", "Perplexity")
    assert table.header[-1] == "Time"
    assert [row[0] for row in table.rows][-2:] == ["Mean of the arms", "Median of the arms"]
    first = [run.result for run in judged.runs if run.arm == judged.judgement.arms[0].arm]
    mean = sum(result.metric("val_loss") or 0 for result in first) / 3
    assert table.rows[0][1] == f"{mean:.4f}"
    assert table.rows[0][2].endswith("%")


def test_the_fresh_runs_are_named_as_sample_and_export_take_them(tmp_path: Path) -> None:
    judged = conducted(tmp_path, f'[arms.lower]\n"{RATE}" = 0.03\n[seeds]\nsearch = 3\nconfirm = 2\n')
    fact = next(fact for fact in shown(judged).confirmation if fact.label == "Their fingerprints")
    for run in judged.runs:
        assert (run.result.fingerprint in fact.value) == (run.stage == "confirm")
    assert "blueberry sample" in fact.remark


def test_a_baseline_that_is_worse_by_what_matters_is_to_be_avoided(tmp_path: Path) -> None:
    judged = conducted(tmp_path, f'[set]\n"{RATE}" = 0.003\n[arms.higher]\n"{RATE}" = 0.06\n[seeds]\nsearch = 5\n')
    avoid = next(one for one in judged.judgement.purposes if one.purpose == "avoid")
    assert avoid.arms == ("baseline",)
    assert "worse than the best by 0.005 or more" in (avoid.evidence or "")
