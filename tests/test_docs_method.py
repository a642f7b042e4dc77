"""docs/method.md against the code: links, the worked example, words, and figures."""

import contextlib
import io
import re
import typing
from pathlib import Path
from statistics import NormalDist
from typing import get_args

import pytest

from blueberry.judge import answers, gather, judgement, races
from blueberry.judge.across import LEAST_POINTS
from blueberry.judge.evidence import BASELINE
from blueberry.judge.forecast import LEAST_MIN_EFFECT
from blueberry.judge.judgement import CurveFinding, Judgement, Purpose, Verdict
from blueberry.stats.differences import MOST_SEEDS, POWER, t_quantile
from blueberry.stats.robustness import upper_bound
from blueberry.study.arms import combine
from blueberry.study.plan import LOOKS
from blueberry.study.sections import KEYS, Method, Seeds
from blueberry.study.spec import Study

DOCS = Path(__file__).parent.parent / "docs"
SOURCE = DOCS.parent / "src" / "blueberry"
PAGE = (DOCS / "method.md").read_text(encoding="utf-8")
TEXT = " ".join(PAGE.split())
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
NUMBER = re.compile(r"\d*\.\d+")
BLOCK = re.compile(r"^```(python|text)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
AUDITS = {
    name
    for path in (*(SOURCE / "judge").rglob("*.py"), SOURCE / "proofread" / "phrases.toml")
    for name in re.findall(r'(?:block\(|warn\(|audit ?=|_said\([^"]*)\s*"([a-z-]+)"', path.read_text(encoding="utf-8"))
}
WEAK = [
    [cell.strip() for cell in line.split("|")[1:-1]]
    for line in PAGE.partition("| recorded in |")[2].splitlines()[2:]
    if line.startswith("|")
]


def choices(model: type, field: str) -> set[str]:
    """The words a field of a record may hold."""
    return {word for word in _flat(typing.get_type_hints(model)[field]) if isinstance(word, str)}


def _flat(hint: object) -> list[object]:
    parts = typing.get_args(hint)
    return [word for part in parts for word in _flat(part)] if parts else [hint]


VERDICTS, PURPOSES = choices(Verdict, "verdict"), choices(Purpose, "purpose")
HOLDS, FINDINGS, PATTERNS = (
    choices(answers.Condition, "holds"),
    choices(CurveFinding, "finding"),
    choices(CurveFinding, "pattern"),
)
ENDED = choices(Judgement, "ended")


def test_every_linked_file_exists() -> None:
    missing = []
    for page in [*DOCS.glob("*.md"), DOCS.parent / "README.md"]:
        text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        files = {link.partition("#")[0] for link in LINK.findall(text) if "://" not in link} - {""}
        missing += [(page.name, name) for name in files if not (page.parent / name).exists()]
    assert missing == []


def test_the_worked_example_gives_the_numbers_that_stand_below_it() -> None:
    blocks = BLOCK.findall(PAGE)
    assert [kind for kind, _ in blocks] == ["python", "text"] * 2
    names: dict[str, object] = {}
    for (_, code), (_, printed) in zip(blocks[::2], blocks[1::2], strict=True):
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(code, names)
        assert said.getvalue() == printed
    assert {verdict.verdict for verdict in typing.cast(Judgement, names["judgement"]).verdicts} == VERDICTS


def test_the_text_on_the_example_quotes_it() -> None:
    told = PAGE.partition("How each pair was decided")[2].partition("## Several comparisons")[0].rpartition("```")[2]
    printed = [float(number) for kind, text in BLOCK.findall(PAGE) if kind == "text" for number in NUMBER.findall(text)]
    given = [0.05, 0.021]  # alpha and min_effect
    half = round(t_quantile(6.33097, 0.05 / 2 / 2) * 0.0151 / 5**0.5, 4)
    assert half == pytest.approx(0.0198, abs=1.5e-4)  # the sd is printed rounded
    half = 0.0198
    quoted = NUMBER.findall(told)
    assert len(quoted) > 10
    for number in quoted:
        places = len(number.partition(".")[2])
        assert float(number) in {round(known, places) for known in [*printed, *given, half]}, number


def test_every_word_in_code_font_is_one_of_the_code() -> None:
    known = VERDICTS | PURPOSES | HOLDS | FINDINGS | PATTERNS | ENDED | AUDITS | {*KEYS, *get_args(Method), BASELINE}
    known |= {*Seeds.model_fields, *Judgement.model_fields, "val_loss", "worse"}
    prose = re.sub(r"^```.*?^```$", "", PAGE, flags=re.DOTALL | re.MULTILINE)
    assert set(re.findall(r"`([a-z][a-z_-]*)`", prose)) - known == set()
    for name in re.findall(r"`best\.(\w+)`", prose):
        assert name in judgement.Best.model_fields


def test_every_word_of_the_code_is_explained() -> None:
    for word in VERDICTS | PURPOSES | HOLDS | FINDINGS | PATTERNS | ENDED:
        assert f"`{word}`" in PAGE
    assert {*typing.get_args(races.Ended)} == ENDED


def test_rules_have_the_numbers_that_are_said() -> None:
    said = {
        f"`confirm` **fresh seeds** ({Seeds().confirm} by default)",
        f"at {', '.join(map(str, LOOKS[:-1]))} and {LOOKS[-1]} seeds unless",
        f"max({LEAST_MIN_EFFECT}, half the noise of one run)",
        f"with probability {POWER}, *if*",
        f"Above {MOST_SEEDS:,} it is not given",
        f"{gather.MOST_SHARED_WINDOWS:.0%} of windows of {gather.WINDOW_TOKENS} tokens",
        f"one of 13 arms would have to lie {t_quantile(2, 0.05 / 13 / 12):.0f} standard errors behind",
        f'"0 of 5 failed" comes with what it is worth: up to {upper_bound(0, 5):.0%} may fail',
        f"out in {1 - 0.95**3:.0%} of studies of three seeds",
        f"the best looks {_flattery(8):.1f} sd better than it is",
    }
    assert [one for one in said if one not in TEXT] == []
    assert LEAST_POINTS == 3  # "From three numeric conditions on", "from four on, again without the last"
    fraction = combine("abcdef", "fraction")
    assert len(fraction.arms) == 16
    assert {len(effect) for group in fraction.aliases for effect in group} == {2}


def test_defaults_are_those_of_a_study_that_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("")
    study = Study.parse({"question": "?", "base": "r.toml", "vary": {"model.dropout": [0.1, 0.2]}}, tmp_path / "s.toml")
    assert f"Its default is {study.min_effect}," in TEXT
    assert f"`alpha`, {study.alpha}, is" in TEXT
    assert f"by default `{study.metric}`" in TEXT
    assert study.method == "grid"


@pytest.mark.parametrize("row", WEAK, ids=lambda row: row[0][:40])
def test_each_figure_of_a_weak_case_stands_where_it_is_said_to(row: list[str]) -> None:
    _, measured, where = row
    place = (DOCS / LINK.findall(where)[0]).read_text(encoding="utf-8")
    figures = re.findall(r"[\d.]+(?:-[\d.]+)?%?", measured)
    assert figures
    assert [figure for figure in figures if figure not in place] == []


def test_figures_of_races_and_the_optimum_are_those_of_the_benchmark_page() -> None:
    truth = (DOCS / "truth.md").read_text(encoding="utf-8")
    assert "a winner in .86 of races, a false one in .040 of races of equal arms" in TEXT
    assert "| two equal arms: false winners | .040 |" in truth
    assert "| two arms one paired sd apart: power | .86 |" in truth
    assert "alone held the optimum in 8-76% of simulations; with the third it is 97-100%" in TEXT
    assert "| 8-76%; 0-10% |" in truth
    assert "| 97-100% |" in truth


def _flattery(num_arms: int) -> float:
    """Expected greatest of so many standard normal values, by the trapezium rule over their quantiles."""
    normal, steps = NormalDist(), 20_000
    cells = [normal.inv_cdf((i + 0.5) / steps) * ((i + 0.5) / steps) ** (num_arms - 1) for i in range(steps)]
    return num_arms * sum(cells) / steps
