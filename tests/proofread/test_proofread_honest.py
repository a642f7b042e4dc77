"""Honest reports in the styles of the field are not accused; the same with one planted defect are.

The reports in `honest` are made up, and their numbers follow from each other.
"""

import re
from pathlib import Path

import pytest

from blueberry.proofread import Document, examine

HONEST = {
    path.stem: path.read_text(encoding="utf-8") for path in sorted(Path(__file__).with_name("honest").glob("*.md"))
}
TWINS = {
    "a wrong perplexity": ("paper", "| 29.70 | 3.397 |", "| 27.90 | 3.397 |", "arithmetic"),
    "a wrong percentage in a sentence": ("paper", "to 3.391 (-0.6%)", "to 3.391 (-2.6%)", "arithmetic"),
    "a wrong comparison": ("blog-post", "0.4% better than 0.01", "4% better than 0.01", "arithmetic"),
    "one run an arm": ("paper", "Over five random seeds", "With seed 1", "seeds"),
    "a loss without its perplexity": ("readme", "a perplexity of 22.4", "a perplexity of 18.2", "arithmetic"),
    "a wrong percentage in a list": ("changelog", "3.377 (-1.0%)", "3.377 (-3.0%)", "arithmetic"),
    "a wrong difference in a column": ("ablation", "| 3.347 | +0.029 |", "| 3.347 | +0.129 |", "arithmetic"),
    "a perplexity of another model": ("release-notes", "| 29.1 |", "| 27.1 |", "arithmetic"),
    "a wrong mean of seeds": ("speedrun-record", "Mean over all 7 runs: 3.27878", "Mean over all 7 runs: 3.27858", "arithmetic"),
    "the best of the seeds": ("speedrun-record", "Step time is", "We report the 5 lowest of the 7 runs. Step time is", "selection"),
    "a wrong mean of an arm's column": ("pull-request", "this PR: val loss mean 3.2780", "this PR: val loss mean 3.2708", "arithmetic"),
    "a perplexity of another run": ("wandb-report", "| 36.565 |", "| 35.665 |", "arithmetic"),
    "a best at the end of the range": ("sweep", "| 0.005 | 3.702 |", "| 0.005 | 3.602 |", "edge"),
    "fewer decades": ("scaling-study", "1.5 orders of magnitude", "3 orders of magnitude", "arithmetic"),
    "chosen on the test set": ("reproduction", "We use seeds 11", "Rates were chosen on the test set. We use seeds 11", "selection"),
    "fewer seeds": ("sweep", ", and the two are not separated (interval -0.019 to 0.005).", ".", "seeds"),
    "more updates for one arm": ("sweep", "| 3 | 3000 | 411.9 |", "| 3 | 6000 | 411.9 |", "budget"),
    "too good": ("sweep", "| 0.02 | 3.617 | 37.23 | 38.9% |", "| 0.02 | 0.117 | 1.12 | 96.9% |", "too-good"),
}  # fmt: skip


def blocked(text):
    return {audit.audit for audit in examine([Document.read("report.md", text)])[0] if audit.severity == "block"}


@pytest.mark.parametrize("text", HONEST.values(), ids=list(HONEST))
def test_an_honest_report_is_not_accused(text):
    assert examine([Document.read("report.md", text)])[0] == ()


@pytest.mark.parametrize(("report", "given", "planted", "audit"), TWINS.values(), ids=list(TWINS))
def test_its_dishonest_twin_is(report, given, planted, audit):
    assert given in HONEST[report], "the twin must change something"
    text = HONEST[report].replace(given, planted)
    if audit == "seeds":
        text = re.sub(r"[35] (?:fresh )?seeds|\| 3 (?=\| 3000)", "| 1 ", text).replace("over | 1 ", "over batches")
    assert audit in blocked(text)
