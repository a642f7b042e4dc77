"""What the page and the Markdown say, and that text stays text."""

import itertools
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import planted
import pytest

from blueberry import analysis
from blueberry.judge.judgement import Audit, CurveFinding
from blueberry.judge.words import MISSING
from blueberry.report.figures import compute, page_figures, pictures
from blueberry.report.page import Page, html, markdown

NUMBER = re.compile(r"[-+]?\d+\.\d+")


class Reader(HTMLParser):
    """Elements with their attributes, the cells of the tables, and the text outside scripts and styles."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self._silent = 0
        self._in_cell = False
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._silent += tag in ("script", "style", "title")
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in ("script", "style", "title")
        self._in_cell = self._in_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.text += data
            if self._in_cell:
                self.rows[-1][-1] += data


def both(study: planted.Planted) -> tuple[str, str]:
    """The page and the Markdown."""
    computed = compute(study.judgement, study.runs)
    shown = Page(study.judgement, study.runs)
    listed = list(pictures(computed))
    figures = page_figures(computed)
    return html(shown, figures, [picture.name for picture in listed]), markdown(shown, listed)


@pytest.fixture(scope="module")
def hostile() -> tuple[str, str]:
    return both(planted.hostile())


@pytest.fixture(scope="module")
def edge() -> tuple[str, str]:
    return both(planted.edge())


@pytest.fixture(scope="module")
def named() -> tuple[str, str]:
    return both(planted.named())


def test_the_table_has_the_judgements_numbers() -> None:
    """Read back from the cells, within the rounding that is shown."""
    study = planted.sweep()
    shown = Page(study.judgement, study.runs)
    verdicts = {verdict.b: verdict for verdict in study.judgement.verdicts}
    for row, arm in zip(shown.rows, study.judgement.arms, strict=True):
        assert row.arm == arm.arm
        assert int(row.n) == arm.n
        if arm.status == "diverged":
            assert row.mean == "∞"
            assert row.status_words == f"{arm.num_diverged} of 3 diverged"
            continue
        assert float(row.mean) == pytest.approx(arm.mean, abs=5.1e-4)
        assert float(row.sd) == pytest.approx(arm.sd, abs=5.1e-4)
        assert [float(x) for x in NUMBER.findall(row.interval)] == pytest.approx(list(arm.interval or ()), abs=5.1e-4)
        if arm.status == "best":
            assert row.against_best is None
            continue
        assert row.against_best is not None
        verdict = verdicts[arm.arm]
        assert float(row.against_best.difference) == pytest.approx(verdict.difference, abs=5.1e-4)
        ends = [float(x) for x in NUMBER.findall(row.against_best.interval)]
        assert ends == pytest.approx(list(verdict.interval or ()), abs=5.1e-4)


def test_a_difference_of_an_earlier_look_stands_with_its_own_seeds() -> None:
    """In a race an arm goes on after a look has decided it, for the sake of others."""
    study = planted.two_arms()
    assert study.judgement.arms[0].n == 5
    early = [verdict.model_copy(update={"n": 3}) for verdict in study.judgement.verdicts]
    study.judgement = study.judgement.model_copy(update={"verdicts": tuple(early)})
    row = Page(study.judgement, study.runs).rows[0]
    assert row.against_best is not None
    assert (row.n, row.against_best.n) == ("5", "3")
    in_page, in_markdown = both(study)
    header, line = (
        next(row for row in in_markdown.splitlines() if row.startswith(start))
        for start in ("| arm | status", "| baseline |")
    )
    cells = dict(zip(map(str.strip, header.split("|")), map(str.strip, line.split("|")), strict=True))
    assert (cells["seeds"], cells["pairs"]) == ("5", "3")
    assert next(row for row in Reader(in_page).rows if row[0] == "baseline")[-2] == "3"


@pytest.mark.parametrize(("looks", "level"), [((), "90%"), ((3, 5, 8), "96.7%")])
def test_the_interval_that_makes_a_tie_is_named(looks: tuple[int, ...], level: str) -> None:
    """It is not the one printed, which may reach beyond min_effect."""
    study = planted.two_arms()
    study.judgement = study.judgement.model_copy(update={"looks": looks, "looks_taken": len(looks)})
    said = " ".join(Page(study.judgement, study.runs).judged)
    assert f"the {level} interval of a difference lies within ± 0.01 nats" in said
    assert "narrower than the interval printed" in said


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        ("settled", "How it ended: every question settled after 5 seeds."),
        ("maximum", "How it ended: at the maximum of 5 seeds, with something left open."),
        (None, "How it ended: not yet."),
    ],
)
def test_a_race_is_said_to_be_one(ended: Any, words: str) -> None:
    study = planted.two_arms()
    assert not any("race" in text for text in Page(study.judgement, study.runs).judged)
    study.judgement = study.judgement.model_copy(update={"looks": (3, 5), "looks_taken": 2, "ended": ended})
    said = " ".join(Page(study.judgement, study.runs).judged)
    assert "a race, with looks planned at 3 and 5 seeds, each with an error of 0.05 / 2" in said
    assert words in said


def test_page_and_markdown_have_the_same_cells(named: tuple[str, str]) -> None:
    cells = [[cell.strip().replace("\N{MINUS SIGN}", "-") for cell in row] for row in Reader(named[0]).rows]
    in_page = next(row for row in cells if row and row[0].startswith("qk_norm"))
    in_markdown = next(line for line in named[1].splitlines() if line.startswith("| qk_norm"))
    assert [cell.strip() for cell in in_markdown.split("|")[2:-1]] == in_page[1:]


def test_known_and_unknown_come_first(named: tuple[str, str]) -> None:
    judgement = planted.named().judgement
    text = Reader(named[0]).text
    places = [text.index(part) for part in (judgement.question, judgement.known, judgement.unknown, "Recommendation")]
    assert places == sorted(places)
    assert named[1].index(judgement.known) < named[1].index("## Recommendation")


def test_a_withheld_recommendation_is_nowhere_made(edge: tuple[str, str]) -> None:
    for text in (Reader(edge[0]).text, edge[1]):
        assert "No recommendation" in text
        assert "The best rate is at the end of the range." in text
        assert not re.search(r"(?m)^(## )?Recommendation\b", text)
        assert f"{planted.RATE} =" not in text
    study = planted.edge()
    shown = Page(study.judgement, study.runs)
    assert shown.withheld is not None
    assert shown.recommended == ()


def test_a_blocked_claim_is_called_out_with_its_remedy(edge: tuple[str, str]) -> None:
    text = Reader(edge[0]).text
    assert re.search(r"Blocked\s*: edge", text)
    assert "Extend the range downwards to 0.0025 and run again." in text


def test_hostile_text_stays_text_in_the_page(hostile: tuple[str, str]) -> None:
    reader = Reader(hostile[0])
    assert planted.HOSTILE in reader.text
    assert not any(tag in ("img", "b") for tag, _ in reader.elements)
    assert sum(tag == "script" for tag, _ in reader.elements) == 3
    assert not any(name.startswith("on") for _, attributes in reader.elements for name in attributes)
    assert "49" not in reader.text.split("{{")[1].split("}}")[0]


def test_hostile_text_stays_text_in_markdown(hostile: tuple[str, str]) -> None:
    text = hostile[1]
    assert "<" not in text
    assert "](http" not in text.replace("\\](http", "")
    assert text.splitlines()[0].startswith("# Which rate is")
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert table
    for first, line in itertools.pairwise(table):
        if re.fullmatch(r"[|:\s-]*--[|:\s-]*", line):  # a rule: the header above it has as many cells
            assert len(re.findall(r"(?<!\\)\|", first)) == len(re.findall(r"(?<!\\)\|", line))


def test_the_page_fetches_nothing(named: tuple[str, str]) -> None:
    for tag, attributes in Reader(named[0]).elements:
        assert not (tag == "script" and "src" in attributes)
        assert tag not in ("iframe", "object", "embed", "base")
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            value = attributes.get(name) or ""
            assert "//" not in value, f"<{tag} {name}={value}>"
    style = named[0][named[0].index("<style>") : named[0].index("</style>")]
    assert "@import" not in style
    assert "url(" not in style
    assert "default-src 'none'" in named[0]


def test_confirmation_prints_both_numbers_and_says_which_is_which() -> None:
    study = planted.sweep()
    facts = {fact.label: fact for fact in Page(study.judgement, study.runs).confirmation}
    assert facts["0.03162 on the seeds that chose it"].remark.startswith("flattering")
    assert facts["On fresh seeds"].value.startswith("4.218 [")
    assert facts["Each of them"].value == "4.223, 4.218, 4.209, 4.226, 4.214"
    assert facts["On the test set"].value == "4.239"
    unconfirmed = planted.edge()
    shown = Page(unconfirmed.judgement, unconfirmed.runs)
    assert not shown.confirmed
    facts = {fact.label: fact.value for fact in shown.confirmation}
    assert facts["On fresh seeds"] == "not measured"
    best = unconfirmed.judgement.best
    assert best is not None
    assert float(facts["On the test set"]) == pytest.approx(best.test_mean, abs=6e-4)


def test_different_builds_are_said() -> None:
    study = planted.two_arms()
    first = study.runs[0]
    assert first.result.provenance is not None
    other = first.result.provenance.model_copy(update={"device": "cuda:0"})
    changed: Any = type(first)(
        first.arm, first.seed, first.stage, first.result.model_copy(update={"provenance": other})
    )
    facts = {fact.label: fact for fact in Page(study.judgement, [changed, *study.runs[1:]]).provenance}
    assert facts["Device"].value == "cpu (9 runs), cuda:0 (1 run)"
    assert facts["Device"].remark == "differs between runs"
    assert facts["Threads"].remark == ""


def test_one_seed_measures_no_noise() -> None:
    study = planted.one_seed()
    shown = Page(study.judgement, study.runs)
    assert shown.noise[-1].value == MISSING
    assert shown.noise[-1].remark == "needs an arm that was run twice"


@pytest.mark.parametrize("name", ["all_diverged", "grid"])
def test_unusual_studies_have_a_page(name: str) -> None:
    study = getattr(planted, name)()
    text = Reader(both(study)[0]).text
    assert study.judgement.known in text


def test_a_judgement_without_runs_has_a_page() -> None:
    """A table from elsewhere has numbers but no curves."""
    study = planted.two_arms()
    study.runs = []
    text = Reader(both(study)[0]).text
    assert "Learning curves" not in text
    assert "what computed them was not recorded" in text


def test_what_the_curves_show_is_told_and_nothing_where_they_show_nothing() -> None:
    study = planted.named()
    assert not any("What the learning curves show" in text for text in both(study))
    arm = study.judgement.arms[0].arm
    found = (
        CurveFinding(arm=arm, finding="pattern", severity="note", message="slow: x", pattern="slow", seeds=(0,), n=1),
        CurveFinding(
            arm=arm, finding="spikes", severity="warn", message="3 <b>spikes</b> at update 9", seeds=(0,), n=1
        ),
    )
    study.judgement = study.judgement.model_copy(update={"findings": found})
    for text in both(study):
        assert "What the learning curves show" in text
        assert "3 &lt;b&gt;spikes&lt;/b&gt; at update 9." in text
        assert f"slowly: {arm}" in text
        assert "slow: x" not in text, "patterns are one sentence for all arms"


@pytest.mark.parametrize(
    ("message", "begins"),
    [
        ("optimizer.muon.learning_rate: a factor of 4", "optimizer.muon.learning_rate: a factor of 4."),
        ("updates=10: its best rate is the largest", "updates=10: its best rate"),
        ("warmup and decay gave the same value", "warmup and decay gave"),
        ("arms that differ in schedule.kind", "Arms that differ"),
        ("12 arms are not separated", "12 arms"),
    ],
)
def test_a_name_keeps_its_case_at_the_front_of_a_finding(message: str, begins: str) -> None:
    study = planted.two_arms()
    first = study.judgement.arms[0].model_copy(update={"arm": "warmup"})
    audit = Audit(audit="edge", severity="block", message=message, remedy="extend it")
    judgement = study.judgement.model_copy(update={"audits": (audit,), "arms": (first, *study.judgement.arms[1:])})
    (shown,) = Page(judgement, study.runs).blocks
    assert shown.message.startswith(begins)
    assert shown.message.endswith(".")
    assert shown.remedy == "Extend it."


def test_a_confirming_run_that_crashed_did_not_diverge() -> None:
    study = planted.Planted(
        {"a": ({}, [4.3, 4.2, 4.25]), "b": ({}, [4.5, 4.6, 4.55])}, vary=(), confirm=[4.31, 4.29, 4.3]
    )
    fresh = [place for place, run in enumerate(study.runs) if run.stage == "confirm"]
    for place, status in zip(fresh, ("failed", "diverged"), strict=False):
        run = study.runs[place]
        ended = run.result.model_copy(update={"status": status, "final": None})
        study.runs[place] = replace(run, result=ended)
    (each,) = [fact for fact in Page(study.judgement, study.runs).confirmation if fact.label == "Each of them"]
    assert each.value == "crashed, diverged, 4.300"


def test_losses_of_a_millionth_are_told_from_0_and_from_each_other() -> None:
    rows = [
        {"arm": arm, "seed": seed, "val_loss": loss * (1 + seed / 10)}
        for arm, loss in (("a", 2e-6), ("b", 6e-6), ("c", 9e-6))
        for seed in range(3)
    ]
    judged = analysis.examine(rows, vary="arm")
    shown = Page(judged.judgement, judged.found.runs)
    assert [row.mean for row in shown.rows] == ["0.000002", "0.000007", "0.000010"]
    assert all(float(row.sd) > 0 for row in shown.rows)
    assert "0.000002 nats" in judged.judgement.known
    assert not re.search(r"\| 0\.0+ ", markdown(shown, []))
