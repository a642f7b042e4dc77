"""Claims about every seed are held against the report's own tables by seed, and averages of chosen seeds are found."""

import pytest

from blueberry.proofread import Document, examine

BY_COLUMN = """# Optimizers

Validation loss by seed:

| arm | seed 0 | seed 1 | seed 2 | seed 3 | seed 4 | mean |
|:--|--:|--:|--:|--:|--:|--:|
| Muon | 3.401 | 3.412 | 3.420 | 3.405 | 3.399 | 3.4074 |
| AdamW | 3.423 | 3.431 | 3.411 | 3.428 | 3.424 | 3.4234 |

{}
"""
BY_ROW = """# Optimizers

Validation loss:

| seed | Muon | AdamW |
|--:|--:|--:|
| 0 | 3.401 | 3.423 |
| 1 | 3.412 | 3.431 |
| 2 | 3.420 | 3.411 |
| 3 | 3.405 | 3.428 |
| 4 | 3.399 | 3.424 |

{}
"""
ROWS = (
    ("Muon", (3.401, 3.412, 3.420, 3.405, 3.399), (36.4, 36.1, 36.0, 36.3, 36.4)),
    ("AdamW", (3.423, 3.431, 3.411, 3.428, 3.424), (35.9, 35.8, 35.7, 35.6, 35.5)),
)
LONG = "| optimizer | seed | val loss |\n|:--|--:|--:|\n" + "".join(
    f"| {arm} | {seed} | {loss:.3f} |\n" for arm, losses, _ in ROWS for seed, loss in enumerate(losses)
)
LONG += "\n{}\n"
ACCURACY = "| optimizer | seed | val loss | val accuracy |\n|:--|--:|--:|--:|\n" + "".join(
    f"| {arm} | {seed} | {losses[seed]:.3f} | {accuracies[seed]}% |\n"
    for arm, losses, accuracies in ROWS
    for seed in range(5)
)
ACCURACY += "\n{}\n"
FALSE = (
    "Muon has a lower validation loss than AdamW on every seed.",
    "Muon is lower on every seed.",
    "It is better on all seeds.",
    "Muon wins on each of the 5 seeds.",
    "On every seed, Muon beats AdamW.",
    "Muon outperforms AdamW on all five seeds.",
    "AdamW is worse on all 5 seeds.",
    "AdamW is beaten by Muon on every single seed.",
    "Muon wins on 5 of 5 seeds.",
    "Muon is better on 3 of the 5 seeds.",
    "Muon is ahead by 0.01 nats on every seed.",
    "The change improves the loss on all seeds.",
    "AdamW is better than Muon on every seed.",
    "Muon is lower on every seed than AdamW.",
)
TRUE = (
    "Muon is better on 4 of 5 seeds.",
    "Muon wins on 4/5 seeds.",
    "Muon is lower on all but one seed.",
    "Muon is not lower on every seed.",
    "Muon is lower on average, over all 5 seeds.",
    "Muon may be better on every seed.",
    "We trained both on all 5 seeds, and Muon is lower by 0.016.",
    "We used the same data order for all seeds.",
    "Every seed ended below 3.5.",
    "Both are below 3.5 on every seed.",
    "Muon is faster on every seed.",
    "The better one on each seed is printed above.",
    "Muon is lower on every one of 20 seeds.",
    "Muon has a lower gradient norm on every seed.",
    "Muon is lower in the mean; see the losses for each seed.",
    "Muon needs tuning to be better; results on every seed are above.",
    "Muon is better than AdamW on every seed but seed 2.",
    "Muon is lower on all seeds that we could run to the end.",
    "On every seed of the second batch, Muon beats AdamW.",
    "The loss is lower on every seed than at initialization.",
    "The training loss is lower on every seed.",
    "The best learning rate is lower on every seed.",
    "The gap is smaller on every seed.",
    "With warmup Muon is better on every seed, without it on four.",
)


def blocked(text):
    return [one.message for one in examine([Document.read("r.md", text)])[0] if one.severity == "block"]


@pytest.mark.parametrize("report", [BY_COLUMN, BY_ROW, LONG], ids=["a column a seed", "a column an arm", "a row a run"])
@pytest.mark.parametrize("claim", FALSE)
def test_a_claim_about_every_seed_is_held_against_the_table(report, claim):
    (message,) = blocked(report.format(claim))
    assert "seed 2 has 3.4" in message or "of 5" in message or claim.startswith("AdamW is better")


@pytest.mark.parametrize("report", [BY_COLUMN, BY_ROW, LONG], ids=["a column a seed", "a column an arm", "a row a run"])
@pytest.mark.parametrize("claim", TRUE)
def test_what_may_be_true_of_every_seed_is_not_accused(report, claim):
    assert blocked(report.format(claim)) == []


def test_the_seed_that_says_otherwise_is_named():
    (message,) = blocked(BY_COLUMN.format("Muon is lower than AdamW on every seed."))
    assert message == 'r.md:10: "lower ... on every seed": seed 2 has 3.420 for Muon and 3.411 for AdamW'


def test_a_claim_that_is_true_of_another_table_or_quantity_is_not_accused():
    assert blocked(ACCURACY.format("Muon has the higher accuracy on every seed.")) == []
    assert blocked(ACCURACY.format("Muon is better on every seed.")) == [], "in accuracy it is"
    assert blocked(ACCURACY.format("Muon has a higher accuracy than AdamW on every seed.")) == []
    assert blocked(ACCURACY.format("AdamW has a higher accuracy than Muon on every seed."))
    swapped = BY_ROW.replace("| 2 | 3.420 | 3.411 |", "| 2 | 3.409 | 3.411 |")
    assert blocked(swapped.format("Muon is lower on every seed.")) == []
    assert blocked(BY_ROW.replace("3.420 | 3.411", "3.411 | 3.411").format("Muon is lower on every seed.")) == []


def test_of_more_arms_a_claim_without_names_may_be_of_any_two():
    three = BY_ROW.replace("AdamW |", "AdamW | SGD |").replace("|--:|--:|--:|", "|--:|--:|--:|--:|")
    for row, value in (("3.423", 3.5), ("3.431", 3.6), ("3.411", 3.7), ("3.428", 3.8), ("3.424", 3.9)):
        three = three.replace(f"| {row} |", f"| {row} | {value} |")
    assert blocked(three.format("The change is lower on every seed.")) == []
    assert blocked(three.format("Muon is lower than SGD on every seed.")) == []
    assert blocked(three.format("Muon is lower than AdamW on every seed."))


CHOSEN = (
    "Loss is averaged over the three best seeds.",
    "We average the best three of five runs.",
    "Numbers are means of the best 3 of 5 seeds.",
    "The table averages the three best seeds of each arm.",
    "Mean of the top-3 seeds: 3.412.",
    "Each number is the average of its three best runs.",
    "Val loss is the mean of the 3 lowest seeds.",
    "For each arm, the 3 best seeds were averaged.",
    "We took the best three seeds of each arm and averaged them.",
    "Of five seeds, each number averages the three best.",
    "The two worst seeds were ignored.",
)
ALL = (
    "The mean of the three best rates is 0.02.",
    "The best 3 of 5 candidates were run again on fresh seeds.",
    "We averaged the weights of the three best runs.",
    "We do not average the three best seeds.",
    "The mean of all five seeds is 3.412; that of the three best seeds would be 3.40.",
    "The three best arms were averaged over five seeds.",
    "An average over the three best learning rates, on five seeds each, is 3.40.",
    "Top 3 arms by mean over 5 seeds: muon, adamw, sgd.",
    "The average of the three best runs of the sweep is 3.40.",
    "The three best seeds were not averaged.",
)
REPORT = "# R\n\n| arm | val loss | seeds |\n|---|---|---|\n| muon | 3.412 | 5 |\n| adamw | 3.498 | 5 |\n\n{}\n"


@pytest.mark.parametrize("text", CHOSEN)
def test_an_average_of_chosen_seeds_is_found(text):
    found = examine([Document.read("r.md", REPORT.format(text))])[0]
    assert ("selection", "block") in {(one.audit, one.severity) for one in found}


@pytest.mark.parametrize("text", ALL)
def test_an_average_of_all_seeds_or_of_the_best_arms_is_none(text):
    assert "selection" not in {one.audit for one in examine([Document.read("r.md", REPORT.format(text))])[0]}
