"""Reports: every planted defect is found by its audit, and the honest twin is quiet."""

import re
from pathlib import Path

import pytest
from doctor_reports import CLEAN, DEFECTS, STAGES

from blueberry.judge.doctor.document import Document
from blueberry.judge.doctor.reports import audit_reports


def found(*texts):
    documents = [Document.read(f"report{number}.md", text) for number, text in enumerate(texts)]
    return audit_reports(documents)


def names(*texts):
    return {(finding.audit, finding.severity) for finding in found(*texts)}


def test_the_honest_report_is_quiet():
    assert found(CLEAN) == ()


@pytest.mark.parametrize(
    ("given", "planted", "audit", "severity"), [row[1:] for row in DEFECTS], ids=[row[0] for row in DEFECTS]
)
def test_every_planted_defect_is_found(given, planted, audit, severity):
    assert given in CLEAN, "the corpus must change something"
    accused = names(CLEAN.replace(given, planted))
    assert (audit, severity) in accused
    consequences = 5 if audit in ("diverged", "too-good", "future", "trivial", "leak") else 2
    assert len(accused) <= consequences, "a planted defect accuses of little else"


@pytest.mark.parametrize(
    "said",
    [
        "The best run had a loss of 3.00 (perplexity {}).",
        "Validation loss was 3.00 and validation perplexity was {}.",
        "It ended at 3.00 val loss, {} val perplexity.",
        "- loss: 3.00\n- perplexity: {}",
    ],
)
def test_a_perplexity_is_read_in_the_forms_that_people_write(said):
    assert ("arithmetic", "block") in names(said.format("25.0"))
    assert ("arithmetic", "block") not in names(said.format("20.1"))


@pytest.mark.parametrize(
    "said",
    ["The loss 5% better, perplexity 25.0.", "Loss of 0.05 nats less at perplexity 25.0.", "loss 3x, perplexity 25.0"],
)
def test_a_change_of_the_loss_is_not_read_as_a_loss(said):
    assert ("arithmetic", "block") not in names(said)


def test_numbers_of_one_seed_are_found_and_those_of_three_are_not():
    once = CLEAN.replace("| 5 | 2000 |", "| {n} | 2000 |").replace("on 5 seeds, arms paired by seed", "with seed=42")
    assert ("seeds", "block") in names(once.replace("{n}", "1"))
    assert ("seeds", "block") in names(once.replace("{n}", "2"))
    assert ("seeds", "block") not in names(once.replace("{n}", "3"))
    assert any("seed=42" in one.message for one in found(once.replace("{n}", "1")))


def test_a_coarse_clock_compares_nothing():
    coarse = re.sub(r"6\d\.\d \|", "0.2 |", CLEAN).replace("(s)", "(min)").replace("4.1 minutes", "0.8 minutes")
    assert names(coarse) == {("clock", "warn")}


def test_times_that_follow_the_rate_were_not_in_random_order():
    row = "| {rate} | {loss} | 5 | {time} |"
    rates = [0.01 * 1.3**n for n in range(10)]
    head = "| learning rate | val loss | seeds | time (s) |\n|---|---|---|---|\n"

    def report(times):
        rows = (
            row.format(rate=round(r, 4), loss=3 + abs(n - 4) / 10, time=t)
            for n, (r, t) in enumerate(zip(rates, times, strict=True))
        )
        return f"# Rates\n\n{head}" + "\n".join(rows)

    assert ("clock", "warn") in names(report([60 - n for n in range(10)]))
    assert ("clock", "warn") not in names(report([60, 57, 59, 56, 60, 58, 56, 59, 57, 60]))


def test_findings_say_where_and_what_to_do_in_one_line():
    for finding in found(CLEAN.replace("43.86", "63.86"), CLEAN.replace("spread", "x").replace("3.805", "3.705")):
        assert re.match(r"report\d\.md", finding.message)
        assert "\n" not in finding.message + finding.remedy
        assert finding.remedy


def test_a_total_of_stages_needs_one_measurement():
    assert ("stack", "block") in names(STAGES.format(together=""))
    assert ("stack", "block") not in names(STAGES.format(together=", all measured together in one campaign"))


def test_one_rate_with_two_losses_in_two_reports():
    other = (
        CLEAN.replace("3.781", "3.381").replace("43.86", "29.40").replace("3.784", "3.384").replace("3.836", "3.736")
    )
    assert any(one.audit == "drift" and "report0.md and report1.md" in one.message for one in found(CLEAN, other))
    assert found(CLEAN, CLEAN) == ()
    assert not any(one.audit == "drift" for one in found(CLEAN, other.replace("mixture of experts", "dense model")))


def test_a_setting_moved_one_way_and_back():
    first = CLEAN.replace("## Choice", "- Warmup: 5% → 10%\n\n## Choice")
    second = CLEAN.replace("## Choice", "- warmup_ratio: 10% → 5%\n\n## Choice")
    assert any(one.audit == "drift" and "warmup" in one.message for one in found(first, second))
    assert not any(one.audit == "drift" for one in found(first, first))


def test_seeds_as_rows_are_no_contradiction():
    rows = "\n".join(
        f"| {rate} | {seed} | {3.8 + rate + seed / 100:.3f} |" for rate in (0.01, 0.02, 0.03) for seed in range(5)
    )
    text = f"# Rates\n\n| learning rate | seed | val loss |\n|---|---|---|\n{rows}\n"
    assert {name for name, _ in names(text)} <= {"edge"}


def test_means_beside_their_seeds_and_in_a_last_row():
    text = (
        "# Means\n\n| arm | seed 0 | seed 1 | seed 2 | mean |\n|---|---|---|---|---|\n| a | 3.10 | 3.20 | 3.30 | {} |\n"
    )
    assert not found(text.format("3.20"))
    assert ("arithmetic", "block") in names(text.format("3.25"))
    rows = (
        "# Means\n\n| arm | val loss | seeds |\n|---|---|---|\n| a | 3.10 | 5 |\n| b | 3.30 | 5 |\n| Mean | {} | 5 |\n"
    )
    assert not found(rows.format("3.20"))
    assert ("arithmetic", "block") in names(rows.format("3.40"))


def test_a_page_that_reports_no_run_claims_nothing():
    assert found("# Install\n\nUse it in production, at zero cost and for extended training. The best tool.\n") == ()


def test_broken_encoding_is_mended_before_reading():
    broken = "Validation loss: 4.000 → 3.000 (-35%)".encode().decode("mac_roman")
    assert "→" not in broken
    assert ("arithmetic", "block") in names(f"# Loss\n\n{broken}\n")


def test_rounded_and_cut_off_percentages_follow():
    for said in ("-37.5%", "-37.6%", "~38%"):
        assert ("arithmetic", "block") not in names(f"# P\n\n- Perplexity: 1448.82 → 904.73 ({said})\n"), said
    assert ("arithmetic", "block") in names("# P\n\n- Perplexity: 1448.82 → 904.73 (-38.5%)\n")
    assert ("arithmetic", "block") not in names("# P\n\n- Accuracy: 9.0% → 11.4% (+2.4%)\n"), "points"


def test_documentation_lists_every_audit_of_reports():
    from blueberry.judge.doctor.claims import CLAIM_AUDITS
    from blueberry.judge.doctor.design import DESIGN_AUDITS
    from blueberry.judge.doctor.measurements import RECORD_AUDITS
    from blueberry.judge.doctor.results import AUDITS
    from blueberry.judge.doctor.rows import ROW_AUDITS

    text = (Path(__file__).parents[3] / "docs" / "doctor.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^\| `([a-z-]+)` \|", text, re.MULTILINE))
    extra = {"arithmetic", "future", "leak"}
    assert told == {*CLAIM_AUDITS, *DESIGN_AUDITS, *RECORD_AUDITS, *AUDITS, *ROW_AUDITS} | extra


RESULTS = "# Two arms\n\n3 seeds each, test loss 3.1.\n\n| arm | val loss |\n|---|---|\n| a | 3.10 |\n| b | 3.11 |\n\n"


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


@pytest.mark.parametrize(
    "said",
    [
        "There is no difference.",
        "There is no difference. Who would have thought?",
        "Whether a is better was asked. There is no difference.",
        "No change was shown to beat it, so there is no effect.",
        "Arm b is as good, whether or not it is longer.",
        "No difference; that b is better was found elsewhere.",
        "**What they show.** That a is as good as b.",
    ],
)
def test_a_sentence_that_leaves_nothing_open_does(said):
    assert ("null", "block") in names(RESULTS + said)
