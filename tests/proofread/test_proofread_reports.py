"""Reports: every planted defect is found by its audit, and the honest twin is quiet."""

import re
from pathlib import Path

import pytest

from blueberry.proofread import Document, examine, num_seeds
from tests.golden.reports import CLEAN, REPORTS


def found(*texts):
    return examine([Document.read(f"report{number}.md", text) for number, text in enumerate(texts)])[0]


def names(*texts):
    return {(finding.audit, finding.severity) for finding in found(*texts)}


def blocking(text):
    return [finding.message for finding in found(text) if finding.severity == "block"]


DEFECTS = {
    **dict.fromkeys(
        ("perplexity", "mean", "sd", "lowest", "total time", "percentage of a line", "percentage of a table", "factor",
         "decades"),
        ("arithmetic", "block"),
    ),
    "over a baseline": ("arithmetic", "block"),
    "diverged": ("diverged", "block"),
    "edge": ("edge", "block"),
    "too good": ("too-good", "block"),
    "future": ("future", "block"),
    "leak, by the losses": ("leak", "block"),
    "leak, by the splitting": ("leak", "warn"),
    "selection": ("selection", "block"),
    "null": ("null", "warn"),
    "budget, by the table": ("budget", "block"),
    "transfer": ("transfer", "warn"),
    "horizon": ("horizon", "warn"),
    "early stop": ("early-stop", "warn"),
    "passes": ("passes", "warn"),
    "stack, in words": ("stack", "warn"),
    "trivial": ("trivial", "warn"),
}  # fmt: skip


def test_the_honest_report_is_quiet():
    assert found(CLEAN) == ()


@pytest.mark.parametrize(("planted", "expected"), DEFECTS.items(), ids=list(DEFECTS))
def test_every_planted_defect_is_found(planted, expected):
    (text,) = REPORTS[planted]
    accused = names(text)
    assert expected in accused
    consequences = 5 if expected[0] in ("too-good", "future", "trivial", "leak") else 2
    assert len(accused) <= consequences, "a planted defect accuses of little else"


RESULTS = "# Two arms\n\n3 seeds each, test loss 3.1.\n\n| arm | val loss |\n|---|---|\n| a | 3.10 |\n| b | 3.11 |\n\n"


@pytest.mark.parametrize(
    "said",
    [
        "Warmup 5% -> 10% reduces loss by 1.2%",
        "Raising warmup from 5% to 10% improves accuracy by 0.8%",
        "Dropout 0.1 → 0.05 (2x smaller) lowers the loss by 0.4%.",
        "Weight decay 0.1 → 0.2: validation loss improves by 0.5%.",
        "Validation loss: 7.440 -> 7.280 on 8x H100",
        "Validation loss: 7.440 → 7.280 in 2x fewer steps",
        "Loss 3.41 → 3.38 (p = 0.3%).",
        "Loss 3.41 → 3.38 (95% CI 3.36 to 3.40).",
        "Perplexity: 40.2 -> 20.1 (0.5x)",
        "Perplexity: 40.2 -> 20.1 (2x)",
        "Accuracy: 40.0% → 44.0% (+4.0%)",
        "Time: 120 s → 60 s (100% faster)",
        "The loss fell from 3.41 to 3.38. A 12% longer run gave the rest.",
        "Throughput is 30% higher. Validation loss went from 3.41 to 3.40.",
        "Loss with lr 0.01 → 0.02 (2.5x) was not measured.",
        "Commit: 5e82390, then 12e99999 and 00e1.",
        "Set `VAL_LOSS_EVERY=0` and val_loss_every=0; LOSS=0 turns it off.",
        "```\nval_loss: 0.01\n```",
        "Entries end 0.001-0.002 of loss below 3.28.",
        "It is 0.02 val loss better, an improvement of 0.05 nats of loss; p (val loss) is 0.003.",
        "The first ended at a loss of 3.00. Perplexity was 45.2 for the other one.",
        "0.04 ends at 3.38, 0.9% better than 0.02 (3.41).",
        "Arm a reaches a loss of 3.10, 0.3% better than b.",
        "Arm a has 10% lower loss variance than b and is 20% better than c.",
        "At equal loss it is 40% better than b in memory.",
        "Mean accuracy over tasks: 41.2%",
        "3-seed mean of the base PR: 3.60",
    ],
)
def test_what_is_right_or_says_no_such_thing_is_not_blocked(said):
    assert blocking(RESULTS + said) == []


@pytest.mark.parametrize(
    "said",
    [
        "Validation loss: 3.912 → 3.781 (-5.3%)",
        "Validation loss improved from 3.912 to 3.781, a 5.3% reduction.",
        "Validation loss: -5.3% (3.912 → 3.781)",
        "We see a 5.3% reduction in validation loss (3.912 → 3.781).",
        "Perplexity: 40.2 -> 20.1 (3x)",
        "Perplexity: 40.2 -> 20.1 (0.3x)",
        "- Perplexity: 1448.82 → 904.73 (-38.5%)",
        "val_bpb 1.105 → 1.094 (-2%)",
        "Accuracy rose from 40.0% to 44.0% (+14%)",
        "0.04 ends at 3.38, 10% better than 0.02 (3.41).",
        "Arm a is 10% better than b (3.11).",
        "Arm a reaches a loss of 3.10, 10% better than b.",
        "The loss of a is a 10% improvement over b.",
        "Training time: 120 s → 90 s (-50%)",
        "Best: a loss of 3.00 (perplexity 25.0).",
        "Validation loss was 3.00 and validation perplexity was 25.0.",
        "It ended at 3.00 val loss, 25.0 val perplexity.",
        "- loss: 3.00\n- perplexity: 25.0",
        "- First: 7.2785\n- Then: 6.8076 (-6.5%)\n- Last: 6.7358 (-1.6%)",
    ],
)
def test_arithmetic_that_is_wrong_is_blocked(said):
    assert any("printed" in message for message in blocking(RESULTS + said))


@pytest.mark.parametrize(
    ("said", "audit", "line"),
    [
        (
            "Nothing else was changed. Validation loss improved from 3.912\nto 3.781, a 5.3% reduction.",
            "arithmetic",
            10,
        ),
        ("Validation loss improved from\n3.912 to 3.781, a 5.3%\nreduction.", "arithmetic", 10),
        ("- A note. We see a 5.3% reduction in validation\n  loss (3.912 → 3.781).", "arithmetic", 10),
        ("It was a long day. Best: a loss of 3.00 (perplexity\n25.0).", "arithmetic", 10),
        ("All went well.\nThe numbers here are the best\nof 3 seeds, as they should be.", "selection", 11),
        ("> Hyperparameters were tuned\n> on the test set.", "selection", 10),
        ("Rates were compared. There is\nno difference.", "null", 10),
    ],
)
def test_a_claim_over_two_lines_of_a_paragraph_is_read_as_one(said, audit, line):
    (one,) = found(RESULTS + said)
    assert one.audit == audit
    assert one.message.startswith(f"report0.md:{line}: ")


@pytest.mark.parametrize(
    "said",
    [
        "Loss 3.00 at the end\n\nPerplexity 25.0 of another",
        "**Limitations.** It was not tested elsewhere, so that we cannot say\nthere is no difference between them.",
        "- a loss of 3.00\n- of another, a perplexity of 25.0",
        "We report all runs, not the best\nof 3 seeds.",
        "Whether the longer one is better, or there is\nno difference, was left open?",
        "```\nThere is\nno difference.\n```",
    ],
)
def test_lines_that_say_each_their_own_are_not_joined(said):
    assert names(RESULTS + said) == set()


@pytest.mark.parametrize("said", ["-37.5%", "-37.6%", "~38%"])
def test_rounded_and_cut_off_percentages_follow(said):
    assert blocking(f"{RESULTS}- Perplexity: 1448.82 → 904.73 ({said})\n") == []


def test_a_column_of_changes_follows_from_one_base():
    table = "| arm | val loss | vs base |\n|---|---|---|\n| base | 3.410 | - |\n| a | 3.380 | {} |\n| b | 3.420 | +0.3% |\n\n"
    head = "5 seeds each, test loss 3.4.\n\n"
    assert blocking(head + table.format("-0.9%")) == []
    assert blocking(head + table.format("-0.030")) == []
    points = head + table.replace("loss", "accuracy").replace("3.410", "40.0%").replace("3.380", "44.0%")
    assert blocking(points.replace("3.420", "42.0%").replace("+0.3%", "+2.0%").format("+4.0%")) == []
    assert any("-0.88%, printed -2.9%" in message for message in blocking(head + table.format("-2.9%")))
    assert blocking(head + table.format("-0.130"))


def test_means_beside_their_seeds_and_in_a_last_row():
    head = "# Means\n\ntest loss 3.2\n\n"
    text = (
        f"{head}| arm | seed 0 | seed 1 | seed 2 | mean |\n|---|---|---|---|---|\n| a | 3.10 | 3.20 | 3.30 | {{}} |\n"
    )
    assert not found(text.format("3.20") + RESULTS)
    assert ("arithmetic", "block") in names(text.format("3.25") + RESULTS)
    rows = f"{head}| arm | val loss | seeds |\n|---|---|---|\n| a | 3.10 | 5 |\n| b | 3.30 | 5 |\n| Mean | {{}} | 5 |\n"
    assert not found(rows.format("3.20"))
    assert ("arithmetic", "block") in names(rows.format("3.40"))


SEEDS = """# Parallel lanes

| {seed} | Steps | val_loss (nats) | BPB |
|---|---|---|---|
| 1337 | 6,242 | 1.8684 | 1.1066 |
| 42 | 6,248 | 1.8704 | 1.1077 |
| 2024 | 6,240 | 1.8648 | 1.1044 |

"""


@pytest.mark.parametrize("seed", ["Seed", "rank", "step", "run"])
def test_a_column_of_seeds_ranks_or_steps_is_no_rate_and_nothing_to_average(seed):
    text = SEEDS.format(seed=seed)
    said = "This run's exact 3-seed mean: **1.10623 BPB**. The best of the three learning rates tried before was kept."
    assert found(text + said) == ()
    assert found(text + "Mean val_bpb: 1.1062 (std: 0.0017)") == ()


def test_a_mean_of_seeds_that_is_none_is_found():
    assert blocking(SEEDS.format(seed="seed") + "3-seed mean: **1.1044 BPB**")
    assert blocking(SEEDS.format(seed="seed") + "Mean over 3 seeds: 1.8650")


@pytest.mark.parametrize(
    "said",
    [
        "Mean over all 3 seeds = 1.10623. Mean of the 2 lowest = **1.10550** (reported here).",
        "We report the best 2 of 3 seeds.",
        "The score is the mean of the best two of three runs.",
        "Reported numbers are the best of 3 seeds.",
        "We dropped the worst seed.",
        "The checkpoint was chosen by its test loss.",
        "Hyperparameters were tuned on the test set.",
    ],
)
def test_numbers_chosen_by_themselves_are_blocked(said):
    assert ("selection", "block") in names(SEEDS.format(seed="seed") + said)


@pytest.mark.parametrize(
    "said",
    [
        "Mean over all 3 seeds = 1.10623 (reported). The mean of the 2 lowest would be 1.10550.",
        "We never report the best of several seeds.",
        "Nothing was chosen on the test set.",
        "The test set was not used for tuning: rates were tuned on validation loss.",
        "The best of the three learning rates tried before was kept.",
        "One seed was excluded: its node crashed.",
    ],
)
def test_numbers_that_were_not_are_not(said):
    assert names(SEEDS.format(seed="seed") + said) == set()


SWEEP = "# Rates\n\n{seeds}\n\n| lr | val loss |\n|---|---|\n| 0.01 | 3.41 |\n| 0.02 | 3.38 |\n| 0.04 | 3.40 |\n\n0.02 is best.\n"


@pytest.mark.parametrize(
    "said", ["", "A GPT with 12 transformer blocks.", "26 runs in all.", "seed=42", "2 seeds each"]
)
def test_a_best_on_fewer_than_three_seeds_is_blocked(said):
    assert ("seeds", "block") in names(SWEEP.format(seeds=said))


@pytest.mark.parametrize(
    ("said", "n"),
    [
        ("3 seeds each", 3), ("Three random seeds", 3), ("mean of 5 runs", 5), ("n = 8 per arm", 8), ("Seeds: 0-4", 5),
        ("seeds 1337, 42 and 2024", 3), ("averaged over five independent runs", 5), ("4 runs per arm", 4), ("seeds: 3", 3),
    ],
)  # fmt: skip
def test_seeds_are_counted_as_people_write_them(said, n):
    text = SWEEP.format(seeds=said)
    assert num_seeds(Document.read("r.md", text)) == n
    assert "seeds" not in {name for name, _ in names(text)}


def test_a_report_of_sizes_or_of_records_needs_no_seeds():
    rows = (
        "| model | params | val loss |\n|---|---|---|\n| s | 124M | 3.12 |\n| m | 350M | 2.84 |\n\nLarger is better.\n"
    )
    assert names(f"# Sizes\n\n{rows}") == set()
    rows = "| # | val loss | date | author |\n|---|---|---|---|\n| 1 | 3.28 | May | a |\n| 2 | 3.27 | June | b |\n\nThe best.\n"
    assert names(f"# Records\n\n{rows}") == set()


def test_selection_is_for_reports_that_know_of_a_test_set_or_claim_more_than_they_ran():
    text = SWEEP.format(seeds="5 seeds each; the validation set is the benchmark.")
    assert names(text) == set()
    assert names(text + "The test set was not looked at.") == {("selection", "block")}
    assert names(text + "It generalizes to any model.") == {("selection", "block"), ("transfer", "warn")}
    assert names(text + "The test set was not looked at until the end: test loss 3.39.") == set()


def test_an_edge_that_the_report_knows_of_is_not_held_against_it():
    text = SWEEP.format(seeds="5 seeds each").replace("0.04 | 3.40", "0.04 | 3.36").replace("0.02 is", "0.04 is")
    assert names(text) == {("edge", "block")}
    assert names(text + "It is the largest we tried, so the optimum may lie beyond.") == set()


def test_a_coarse_clock_compares_nothing():
    coarse = re.sub(r"6\d\.\d \|", "0.2 |", CLEAN).replace("(s)", "(min)").replace("4.1 minutes", "0.8 minutes")
    assert names(coarse) == set()
    assert names(coarse + "\n## Times\n\nThe larger rate is no faster: the same training time.\n") >= {
        ("clock", "warn")
    }


@pytest.mark.parametrize(
    "said",
    [
        "Keep the baseline: no change was shown to beat it.",
        "No difference in loss between the two was found.",
        "Whether it is as good as the best at width 48; more seeds would show it.",
        "The two may perform equally well.",
        "**What they do not show.** That a is as good as b.",
        "Is there no difference between a and b?",
        "## What is not shown\n\nThere is no difference.",
        "There is no difference: the 90% interval lies within ±0.005.",
    ],
)
def test_a_sentence_that_leaves_open_claims_no_equality(said):
    assert "null" not in {name for name, _ in names(RESULTS + said)}


@pytest.mark.parametrize("said", ["There is no difference.", "No change was shown to beat it, so there is no effect."])
def test_a_sentence_that_leaves_nothing_open_does(said):
    assert ("null", "warn") in names(RESULTS + said)


def test_accuracies_of_a_test_without_a_validation_are_read():
    text = "# Test\n\n3 seeds.\n\n| arm | test loss | test accuracy |\n|---|---|---|\n| a | 0.02 | 99.5% |\n| b | 0.03 | 99.1% |\n"
    assert found(text) == ()


def test_a_page_that_reports_no_run_claims_nothing():
    text = "# Install\n\nUse it in production, at zero cost and for extended training. The best tool.\n"
    audits, notes = examine([Document.read("r.md", text)])
    assert audits == ()
    what = "no loss, perplexity, bits per byte or accuracy of a run is in it, so there is little to check"
    assert notes == (f"r.md: {what}; --metric names another",)


def test_broken_encoding_is_mended_before_reading():
    broken = "Validation loss: 4.000 → 3.000 (-35%)".encode().decode("mac_roman")
    assert "→" not in broken
    assert ("arithmetic", "block") in names(f"# Loss\n\n{broken}\n")


def test_findings_say_where_and_what_to_do_in_one_line():
    for finding in found(REPORTS["perplexity"][0], CLEAN.replace("spread", "x").replace("3.805", "3.705")):
        assert re.match(r"report\d\.md", finding.message)
        assert "\n" not in finding.message + finding.remedy
        assert finding.remedy


def test_documentation_lists_every_audit_of_reports():
    from blueberry.proofread import CLAIM_AUDITS, PHRASES

    text = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^\| `([a-z-]+)` \|", text, re.MULTILINE))
    assert told >= {*CLAIM_AUDITS, *(phrase.audit for phrase in PHRASES), "selection", "curse", "arithmetic"}
