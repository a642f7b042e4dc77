"""The five published reports, with their data beside them, where they are at hand: what each must be told."""

import os
from pathlib import Path

import pytest

from blueberry.analysis import checkup as examine

SHARED = Path(os.environ.get("BLUEBERRY_DOCUMENTS") or Path(__file__).parents[3] / "shared")
pytestmark = pytest.mark.skipif(not (SHARED / "seeds").is_dir(), reason="the published reports are not here")

FOUND = [
    # Data
    ("too-good", "003_deepseek_mlp_lr_search.md:33", "text does not allow"),
    ("future", "003_deepseek_mlp_lr_search.md:33", "one token in 333"),
    ("leak", 'deepseek_lr_search.json "lr_1.00e-03"', "below training loss"),
    *(("selection", f"{name}", "no number of a test set") for name in ("000", "001", "002", "003", "004")),
    # Budget and schedule
    ("budget", "ablation.json", "gradient_accumulation_steps varies"),
    ("schedule", "schedules.json", "do not come down: 0.607 of the peak"),
    ("schedule", "schedules.json", "warm up for fewer than 5 updates"),
    ("horizon", "002_comprehensive_lr_analysis.md:202", "moves with the length of a run"),
    # Statistics
    *(("seeds", f"{name}", "no difference can be told from chance") for name in ("000", "001", "002", "003")),
    ("seeds", "004_cumulative_summary.md", "one seed (seed=42)"),
    ("edge", "003_deepseek_mlp_lr_search.md", "0.003, is the largest tried"),
    ("arithmetic", "003_deepseek_mlp_lr_search.md:97", "1.48 decades, printed 2 orders"),
    # Arithmetic
    ("arithmetic", "002_comprehensive_lr_analysis.md:160", "mean accuracy of the 26 rows is 11.00%, printed 11.8%"),
    ("arithmetic", "002_comprehensive_lr_analysis.md:160", "sd of the 26 rows is 6.03%, printed 5.2%"),
    ("arithmetic", "002_comprehensive_lr_analysis.md:161", "11.90%, printed 11.3%"),
    ("arithmetic", "002_comprehensive_lr_analysis.md:325", "1,104 s = 18.4 minutes, printed 18.5 hours"),
    ("stack", "004_cumulative_summary.md:123", "exceed sum of"),
    ("arithmetic", "004_cumulative_summary.md:83", "-1.05%, printed -1.6%"),
    ("arithmetic", "004_cumulative_summary.md:91", "+5.05%, printed +16.4%"),
    ("arithmetic", "004_cumulative_summary.md:99", "-6.94%, printed -10.5%"),
    ("arithmetic", "001_main_branch_optimization.md:67", "+22.58%, printed +26.5%"),
    ("trivial", "000_before_vs_after.md", "accuracy 0.0157 at losses"),
    ("drift", "000_before_vs_after.md", "0.01 ends at 9.5662 and at 7.119; 0.065 ends at 7.3791 and at 5.895"),
    ("clock", "000_before_vs_after.md", "exact to 25%"),
    ("null", "000_before_vs_after.md", "no equivalence test"),
    ("null", "004_cumulative_summary.md", "equal time is claimed"),
]


@pytest.fixture(scope="module")
def findings():
    data = ["ablation.json", "deepseek_lr_search.json", "lr_sweep_26.json", "schedules.json"]
    paths = [*sorted((SHARED / "seeds").glob("*.md")), *(SHARED / "data" / name for name in data)]
    return examine(paths).audits


@pytest.mark.parametrize(("audit", "place", "said"), FOUND)
def test_what_is_wrong_is_found(findings, audit, place, said):
    assert any(one.audit == audit and place in one.message and said in one.message for one in findings)


def test_the_table_that_prints_its_data_is_not_accused_of_another(findings):
    assert not any(
        one.audit == "drift" and "lr_sweep_26.json" in one.message and "002" in one.message for one in findings
    )
