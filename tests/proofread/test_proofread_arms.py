"""What a report says of the mean of an arm, against the arm's rows."""

import pytest

from blueberry.proofread import Document, examine

REPORT = """# Optimizers

Three seeds, 200 updates each.

| Optimizer | Seed | Val loss | Time (s) |
|---|---|---|---|
| AdamW | 0 | 3.271 | 61 |
| AdamW | 1 | 3.275 | 60 |
| AdamW | 2 | 3.271 | 62 |
| Muon | 0 | 3.302 | 66 |
| Muon | 1 | 3.304 | 64 |
| Muon | 2 | 3.301 | 65 |

{said}
"""


def found(said: str) -> list[str]:
    audits, _ = examine([Document.read("r.md", REPORT.format(said=said))])
    return [one.message for one in audits if one.audit == "arithmetic"]


@pytest.mark.parametrize(
    "said",
    [
        "Muon has a lower loss on every seed; the mean of Muon is 3.2523.",
        "The average val loss for **Muon** was 3.252, that of AdamW 3.272.",
        "- Muon averages 3.252 nats",
        "So Muon has a mean loss of 3.25.",
    ],
)
def test_another_mean_than_its_rows_give_is_found(said):
    (message,) = found(said)
    assert message.startswith("r.md:14: mean of the 3 rows of Muon is 3.3023, printed 3.25")


@pytest.mark.parametrize(
    "said",
    [
        "The mean of Muon is 3.3023.",
        "Muon averages 3.302 and AdamW averages 3.27.",
        "The mean of AdamW is 61 s, that of Muon 65.",
        "The mean of Muon is 3.30.",
        "The mean of Muon without seed 1 is 3.25.",
        "The mean of Muon-v2 is 3.25.",
        "The average of AdamW+Muon is 3.25.",
        "At 400 updates Muon averages 2.5.",
        "Muon improves on the mean of seeds.",
    ],
)
def test_what_its_rows_give_or_may_not_be_of_them_is_quiet(said):
    assert found(said) == []
