"""Reports against each other and against the results beside them."""

from blueberry.proofread import Document, audit_across
from blueberry.tables.reading import table_of
from tests.golden.reports import CLEAN

ROWS = [
    {"lr": 0.01, "val_loss": 3.91234, "train_seconds": 13.6},
    {"lr": 0.02, "val_loss": 3.80512, "train_seconds": 13.5},
    {"lr": 0.04, "val_loss": 3.78099, "train_seconds": 13.4},
]
REPORT = """# Rates
| learning rate | val loss |
|---|---|
| 0.01 | 3.912 |
| 0.02 | 3.805 |
| 0.04 | 3.781 |

Both take the same training time.
"""


def beside(report=REPORT, rows=ROWS):
    return [finding.audit for finding in audit_across([Document.read("r.md", report)], [table_of(rows)])]


def test_a_report_that_prints_its_data_is_quiet():
    assert beside() == []


def test_a_number_that_is_not_the_datas():
    assert beside(REPORT.replace("3.781", "3.761")) == ["drift"]
    others = [{**row, "val_loss": row["val_loss"] + 1} for row in ROWS]
    assert beside(rows=others) == [], "a table of other runs"


def test_equal_times_that_are_not():
    slower = [{**row, "train_seconds": 10 + 100 * row["lr"]} for row in ROWS]
    assert beside(rows=slower) == ["null"]
    assert beside(REPORT.replace("same training time", "time that runs take"), slower) == []


def test_rates_that_two_reports_share_with_other_losses_are_said():
    other = CLEAN.replace("3.781", "3.381").replace("3.805", "3.405")

    def across(*texts):
        return audit_across([Document.read(f"{place}.md", text) for place, text in enumerate(texts)], [])

    (one,) = across(CLEAN, other)
    assert (one.audit, one.severity) == ("drift", "warn")
    assert (
        one.message == "0.md and 1.md: learning rate 0.02 ends at 3.805 and at 3.405; 0.04 ends at 3.781 and at 3.381"
    )
    assert across(CLEAN, CLEAN) == []
    assert across(CLEAN, CLEAN.replace("3.781", "3.381")) == [], "one shared rate is a coincidence"
