"""What the page and its Markdown twin say: words and strings in the order of the page, laid out by
`templates/index.html` and `templates/report.md`, which have the headings."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from blueberry.judge import words
from blueberry.judge.judgement import BASELINE, ArmSummary, Audit, Judgement, Purpose
from blueberry.judge.words import count, decimals, interval, number, sentence, settings_text
from blueberry.records import StudyRun, arm_name
from blueberry.report.charts import DARK, LIGHT, css_variables, drawable, vega_script
from blueberry.report.figures import Drawn, PageFigures, of_the_whole
from blueberry.report.page_facts import (
    Fact,
    confirmation_facts,
    cost_facts,
    noise_facts,
    provenance_facts,
    robustness_facts,
    search_sentences,
    trained_facts,
)
from blueberry.report.page_tables import Comparison, Table, comparison, tables
from blueberry.study.spec import Study

MOST_ARMS = 12
"""That a sentence lists."""


@dataclass(frozen=True)
class ArmRow:
    arm: str
    settings: str
    """"" where the name of the arm says it already."""
    mean: str
    interval: str
    n: str
    sd: str
    status: str
    """best, unresolved, worse or diverged."""
    status_words: str
    against_best: Comparison | None
    """None for the best itself, or when there is none."""


@dataclass(frozen=True)
class Page:
    """Everything a reader is told, in the order in which it is told."""

    judgement: Judgement
    runs: Sequence[StudyRun]
    study: Study | None = None
    """That asked for the runs, if one of ours did."""

    @cached_property
    def blocks(self) -> tuple[Audit, ...]:
        return tuple(self._callout(audit) for audit in self.judgement.blocks)

    @cached_property
    def warnings(self) -> tuple[Audit, ...]:
        return tuple(self._callout(audit) for audit in self.judgement.audits if audit.severity == "warn")

    def _callout(self, audit: Audit) -> Audit:
        """As sentences, in which the names of arms, parts and settings keep their case."""
        judged = self.judgement
        names = [one.arm for each in (judged, *(part.judgement for part in judged.parts)) for one in each.arms]
        names += [*judged.vary, *(part.name for part in judged.parts)]
        said = {"message": sentence(audit.message, names), "remedy": sentence(audit.remedy)}
        return audit.model_copy(update=said)

    @cached_property
    def withheld(self) -> str | None:
        """Why nothing is recommended; None when something is."""
        reason = self.judgement.recommendation.withheld
        return None if reason is None else sentence(reason)

    @cached_property
    def recommended(self) -> tuple[tuple[str, str], ...]:
        """Setting and value, exact and as TOML has it: a copied line names the same run."""
        settings = None if self.withheld else self.judgement.recommendation.settings
        return tuple((name, json.dumps(value)) for name, value in (settings or {}).items())

    @cached_property
    def search(self) -> str | None:
        """How a search along an axis ended, and what its answer rests on; None without one."""
        return search_sentences(self.judgement)

    @cached_property
    def purposes(self) -> tuple[Fact, ...]:
        """What to use for which purpose, and why; or that nothing is supported, and why."""
        return tuple(_purpose(purpose) for purpose in self.judgement.purposes)

    @cached_property
    def trained(self) -> tuple[Fact, ...]:
        """Empty where no study of ours asked for the runs."""
        return trained_facts(self.study, self.runs)

    @cached_property
    def measured(self) -> str:
        """What the numbers in the table of arms are."""
        judged = self.judgement
        name, unit = words.metric_name(judged.metric), words.metric_unit(judged.metric)
        per = " per token" if unit == "nats" else ""
        said = f"{name}{f', in {unit}{per}' if unit not in name else ''}, at the end of training"
        better = "higher" if judged.goal == "maximize" else "lower"
        said = sentence(f"{said}, over {self._seeds()}; {better} is better")
        level = f"{1 - judged.alpha:.0%}"
        if not judged.verdicts:
            return f"{said} Intervals are at {level}."
        return (
            f"{said} Intervals of means are at {level} each; those of differences, always the arm minus the reference, "
            "are adjusted for the number of comparisons; pairs: the seeds of a difference."
        )

    def _seeds(self) -> str:
        """Whose numbers stand in the table of arms."""
        if not self.judgement.conditions:
            return "seeds that did not choose an arm's own best" if self.judgement.parts else "the seeds that search"
        if self.confirmed:
            return "fresh seeds, which did not choose each condition's own best"
        if any(part.judgement.best and part.judgement.best.confirmed for part in self.judgement.parts):
            return "fresh seeds where a condition's own best has any, else those that chose it"
        return "the seeds that chose each condition's own best, which flatters it"

    @cached_property
    def best(self) -> str | None:
        """The arm that the others are compared with in the table."""
        judged = self.judgement
        return judged.best.arm if judged.best and judged.verdicts else None

    @cached_property
    def rows(self) -> tuple[ArmRow, ...]:
        """The arms."""
        recipe = next((run.result.recipe for run in self.runs if run.arm == BASELINE), {})
        unchanged = {name: recipe[name] for name in self.judgement.vary if recipe.get(name) is not None}
        return tuple(_row(self.judgement, arm, self.best, unchanged) for arm in self.judgement.arms)

    @cached_property
    def against_baseline(self) -> tuple[Comparison, ...]:
        """Empty where the baseline is the best, or there is none."""
        judged = self.judgement
        if self.best == BASELINE or not any(verdict.a == BASELINE for verdict in judged.verdicts):
            return ()
        return tuple(comparison(judged, arm.arm, BASELINE) for arm in judged.arms if arm.arm != BASELINE)

    @cached_property
    def tables(self) -> tuple[Table, ...]:
        """What else was measured of the arms; parts, conditions and effects."""
        return tables(self.judgement, self._whole)

    @cached_property
    def _whole(self) -> tuple[StudyRun, ...]:
        return of_the_whole(self.judgement, self.runs)

    @cached_property
    def findings(self) -> tuple[Fact, ...]:
        """What stands out in the learning curves, by arm (a part's by its name too)."""
        return tuple(Fact(one.arm, sentence(one.message)) for one in self.judgement.findings if one.severity == "warn")

    @cached_property
    def patterns(self) -> str | None:
        """How the training losses of the other arms fell, e.g. "Training loss fell fast: a, b; slowly: c"; None without
        curves."""
        said = []
        for pattern, how in (("fast", "fast"), ("moderate", "at a moderate pace"), ("slow", "slowly")):
            arms = [one.arm for one in self.judgement.findings if one.pattern == pattern]
            more = f" and {len(arms) - MOST_ARMS} more" if len(arms) > MOST_ARMS else ""
            said += [f"{how}: {', '.join(arms[:MOST_ARMS])}{more}"] if arms else []
        if not said:
            return None
        return (
            f"Training loss fell {'; '.join(said)}. (Fast: 80% of the way to its final value within a quarter of the "
            "run; moderate: within half. Fast is not better: a rate that is too high also falls fast, and then stops.)"
        )

    @cached_property
    def noise(self) -> tuple[Fact, ...]:
        return noise_facts(self.judgement)

    @cached_property
    def confirmation(self) -> tuple[Fact, ...]:
        return confirmation_facts(self.judgement, self._whole)

    @cached_property
    def cards(self) -> tuple[tuple[str, tuple[Fact, ...]], ...]:
        """Facts side by side, each with a heading; none is empty."""
        found = [
            ("Noise", self.noise),
            ("Confirmation" if self.confirmed else "Unconfirmed", self.confirmation),
            ("Robustness", robustness_facts(self.judgement)),
            ("Cost", cost_facts(self.judgement)),
        ]
        return tuple((title, facts) for title, facts in found if facts)

    @cached_property
    def confirmed(self) -> bool:
        """Whether the best arm has fresh seeds; of conditions, whether the best of each has."""
        judged = self.judgement
        bests = [part.judgement.best for part in judged.parts] if judged.conditions else [judged.best]
        return all(best is not None and best.confirmed for best in bests)

    @cached_property
    def judged(self) -> tuple[str, ...]:
        """How it was judged: short paragraphs."""
        return how_judged(self.judgement)

    @cached_property
    def provenance(self) -> tuple[Fact, ...]:
        return provenance_facts(self.runs)


def _purpose(purpose: Purpose) -> Fact:
    label = purpose.purpose.capitalize()
    if purpose.evidence is None:
        return Fact(label, "not supported", f"because: {purpose.because}")
    value = settings_text(purpose.settings) if purpose.settings else ", ".join(purpose.arms)
    return Fact(label, value, purpose.evidence)


def _row(judgement: Judgement, arm: ArmSummary, best: str | None, unchanged: dict[str, Any]) -> ArmRow:
    """`unchanged`: what the baseline has where others differ from it."""
    places = decimals(judgement.min_effect)
    is_named_so = arm.arm in (arm_name(arm.settings), arm_name(arm.settings, judgement.vary))
    settings = unchanged if arm.arm == BASELINE else arm.settings
    status = {"best": "best", "unresolved": "not told apart", "worse": "worse", "diverged": "diverged"}[arm.status]
    if judgement.is_located:  # a valley compares values, not arms
        where = {"unresolved": "in the optimum's interval", "worse": "outside the optimum's interval"}
        status = where.get(arm.status, status)
    if judgement.conditions:
        status = "not compared"
    if arm.n == 0:
        status = "best, between those searched" if arm.status == "best" else "no run has ended"
    if arm.num_diverged:
        status = f"{arm.num_diverged} of {arm.n} diverged"
    return ArmRow(
        arm=arm.arm,
        settings="" if is_named_so else settings_text(settings),
        mean=number(arm.mean, places),
        interval=interval(arm.interval, places),
        n=str(arm.n),
        sd=number(arm.sd, places),
        status=arm.status,
        status_words=status,
        against_best=None if best is None or arm.arm == best else comparison(judgement, arm.arm, best),
    )


# --- How it was judged ---


def how_judged(judgement: Judgement) -> tuple[str, ...]:
    """Short paragraphs."""
    effect = f"{judgement.min_effect:g}{words.unit(judgement.metric)}"
    where = "under each condition" if judgement.conditions else "in the study"
    compared = judgement.parts[0].judgement if judgement.conditions else judgement
    narrow = 100 * (1 - 2 * judgement.alpha / max(len(compared.looks), 1))
    failed = (
        "A run that diverged counts as infinitely bad; it is never left out. A number measured on the seeds that chose "
        "an arm flatters it, so the reported one comes from fresh seeds where there are any."
    )
    searched = _search(judgement)
    if judgement.is_located or (judgement.conditions and all(part.judgement.is_located for part in judgement.parts)):
        seed = "A seed fixes the initial weights, the order of the data and every random draw."
        return (seed, *searched, failed)
    return (
        _how_compared(compared),
        *_one_rule(compared, where),
        f"A tie is claimed only when the {narrow:.3g}% interval of a difference lies within ± {effect}, the smallest "
        "that was said to matter before the first run (two one-sided tests). It is narrower than the interval printed. "
        "Everything else is inconclusive, with the number of seeds that would settle it.",
        *searched,
        *_race(judgement),
        failed,
    )


def _how_compared(compared: Judgement) -> str:
    """Pair by pair or not, and by whose noise."""
    paired = {verdict.paired for verdict in compared.verdicts}
    said = [
        "A seed fixes the initial weights, the order of the data and every random draw. Arms are compared seed by "
        "seed, so that what a seed does to all of them cancels."
    ]
    if paired == {False}:
        said = [
            "No pairs: arms share fewer than three seeds, or no run says its seed, so all runs of one arm are compared "
            "with all of the other."
        ]
    elif False in paired:
        said.append("Arms that share fewer than three seeds are compared unpaired, all runs with all.")
    if compared.noise.borrowed_sd is not None:
        sd, source = compared.noise.borrowed_sd, compared.noise.borrowed_from
        return (
            f"Every difference is judged by borrowed noise: single runs are taken to scatter by {sd:g} ({source}), "
            "which these runs did not measure. Claims hold if that is their noise; all runs of one arm are compared "
            "with all of the other."
        )
    said.append(
        "The noise of a difference is that of its own arms, and so far as the arms are alike in noise that of the "
        "others too; an arm that is noisier than the rest is judged by its own."
    )
    return " ".join(said)


def _search(judgement: Judgement) -> tuple[str, ...]:
    """What the answer of a search rests on; of parts, where at least one has such an answer."""
    if not (judgement.is_located or any(part.judgement.is_located for part in judgement.parts)):
        return ()
    where, alone = "Within a part, the", ""
    if judgement.is_located:
        where, alone = "The", " Values are not compared with one another, so none is claimed to be tied."
    return (
        f"{where} values about the best were read as one smooth valley, what a seed does to all its runs taken out: "
        "polynomials of degree 2 to 4, as far as there are values enough, and two half-parabolas, without those that "
        "repeated runs reject. What a value costs at worst is the largest upper bound of its difference to any other "
        f"value of the window, over the models kept, at {1 - judgement.alpha:.0%}. A value at which a run diverged is "
        f"no point of the valley.{alone}",
    )


def _one_rule(compared: Judgement, where: str) -> tuple[str, ...]:
    has_baseline = any(arm.arm == BASELINE for arm in compared.arms)
    said = (
        "An arm is worse than the best when the interval of their difference lies above zero, and not told "
        "apart from it where it does not. The clearest is tested first; the more arms are left, any of which may be "
        "the best, the wider the interval. Its end nearer to zero is what was tested; the other makes all intervals "
        "hold at once."
    )
    if compared.goal == "maximize":
        said = said.replace("above", "below")
    against = (
        "An arm is better or worse than the baseline when the interval of their difference excludes zero; it is "
        "wider where more arms are compared with the baseline."
    )
    error = f"The chance of any false winner {where} is held at {compared.alpha:g}"
    return (f"{against} {said} {error}, for either question.",) if has_baseline else (f"{said} {error}.",)


def _race(judgement: Judgement) -> tuple[str, ...]:
    raced = judgement if judgement.looks else next((p.judgement for p in judgement.parts if p.judgement.looks), None)
    if raced is None:
        return ()
    where = "a race" if judgement.looks else "a race within each part"
    stands = " What a look decided stands: a difference is as it was at the look that decided it, or at the last one."
    if not (judgement.looks or judgement.conditions):
        stands = " The parts' own bests were then compared once, on fresh seeds."
    looks = words.listing([str(look) for look in raced.looks], most=12)
    return (
        f"Seeds came in {where}, with looks planned at {looks} seeds, each with an error of "
        f"{judgement.alpha:g} / {len(raced.looks)}; after a look only arms of which something was still open got more. "
        f"{_endings(judgement)}{stands}",
    )


def _endings(judgement: Judgement) -> str:
    """How the race, or that of each part, has ended."""
    if judgement.looks:
        return f"How it ended: {_ending(judgement)}."
    endings: dict[str, list[str]] = {}
    for part in judgement.parts:
        endings.setdefault(_ending(part.judgement), []).append(part.name)
    return f"How they ended: {'; '.join(f'{words.listing(names)}, {said}' for said, names in endings.items())}."


def _ending(judgement: Judgement) -> str:
    if judgement.ended is None:
        return "not yet"
    seeds = count(judgement.looks[judgement.looks_taken - 1], "seed")
    if judgement.ended == "maximum":
        return f"at the maximum of {seeds}, with something left open"
    return f"every question settled after {seeds}"


# --- Templates ---

_MINUS = re.compile(r"(?<![\w.)\]-])-(?=[\d∞])")


def html(page: Page, figures: PageFigures, pictures: Sequence[str]) -> str:
    """The page, with style, scripts and data inside it."""
    shown = (*figures.first, *figures.curves, figures.each_arm)
    drawn = [figure for figure in shown if figure is not None]
    return rendered(
        "index.html",
        page=page,
        figures=figures,
        specs={figure.name: figure.spec for figure in drawn},
        pictures=pictures,
        vega=Markup(vega_script()) if drawn else None,
    )


def markdown(page: Page, pictures: Sequence[Drawn]) -> str:
    """The same in GitHub's Markdown; pictures of single arms are left to their folder."""
    shown = [picture for picture in pictures if "/individual/" not in picture.name]
    return rendered("report.md", page=page, pictures=shown)


def rendered(template: str, **held: Any) -> str:
    """A template filled, with what HTML cannot hold replaced; of Markdown no two empty lines in a row."""
    html = template.endswith(".html")
    held |= {"light": Markup(css_variables(LIGHT)), "dark": Markup(css_variables(DARK))} if html else {}
    text = drawable(_environment(html=html).get_template(template).render(**held))
    return text if html else re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


@cache
def _environment(*, html: bool) -> Environment:
    """It keeps its templates compiled."""
    environment = Environment(
        loader=PackageLoader("blueberry.report"),
        autoescape=html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_typeset if html else _escape_markdown,
    )
    environment.filters["code"] = _code
    return environment


def _typeset(value: Any) -> Any:
    """A true minus before numbers; what is already markup is left alone."""
    return _MINUS.sub("\N{MINUS SIGN}", value) if isinstance(value, str) and not isinstance(value, Markup) else value


class _Plain(str):
    """Markdown that is meant as it stands."""


def _escape_markdown(value: Any) -> Any:
    """Text that Markdown, and the HTML inside it, show as it is: on one line, with nothing to act on."""
    if not isinstance(value, str) or isinstance(value, _Plain):
        return value
    text = re.sub(r"\s+", " ", value)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*|~$])", r"\\\1", text)
    text = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)  # inside a word it is no emphasis
    text = re.sub(r"\](?=[(\[:])", r"\\]", text)
    return re.sub(r"^([#+-]|\d+[.)])(?=\s)", r"\\\1", text)


def _code(value: str) -> str:
    """A code span, also in a table."""
    text = re.sub(r"\s+", " ", str(value)).replace("`", "'").replace("|", "\\|")
    return _Plain(f"`{text}`")
