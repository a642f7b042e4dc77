"""The words of the page, and which measures its tables show."""

from dataclasses import dataclass
from pathlib import Path

INTRODUCTION = """# Can it be believed? The truth benchmark

Blueberry's reports say *winner*, *tie*, *the optimum lies between*, *N more seeds*. Whether such sentences are true
cannot be seen in real studies, because nobody knows the truth there. So studies were simulated whose truth is
known: expected losses along thirteen learning rates (valleys, lopsided ones, cliffs, plateaus, optima beyond the
edge, two valleys), ablations whose effects cancel, and planted nulls in which nothing differs; around them the
noise that training has (sd .0012 to .03 nats, correlation 0 to .9 between arms on one seed, heavy tails, noise that
grows with the rate, runs that diverge, levels that drift). Each was handed to the code that judges real studies -
not to a copy of it - and what it said was held against the truth. Beside it stand three habits that need no tool:
the least mean, a t-test on each pair, a percentile bootstrap. alpha is .05 throughout."""

READING = """## How to read the tables

A *false winner* is a study in which any verdict names a winner that is not better; a *false tie* one in which any
pair that differs by at least the smallest difference that matters is called a tie ("no significant difference" in
the three habits); shares are of studies, so that many arms in one study get no discount. *Covers*: the study's
intervals, all of them at once, hold the true differences; with a baseline, those against it, and *of the best* the
others. *Best dropped*: the truly best arm is not among the
unresolved ones. *Decided*: share of comparisons that end as winner or tie. Regret is the expected loss of the arm
that was chosen above the best arm's, in thousandths of a nat; beside it, that of choosing by one seed. Unless a row
says otherwise, sd is .005 nats, rho .5, noise Gaussian, curvature .03 nats per squared unit of log rate, and sweeps
have three seeds. **Bold**: a gate that fails."""

BESIDE = (Path(__file__).parent / "beside.md").read_text(encoding="utf-8").strip()
"""Simulations made once, by hand."""

GATES = {
    "false winner": "False winners",
    "false tie": "False ties",
    "contrast covers": "Coverage of a single contrast",
    "intervals cover": "Coverage, all intervals of a study at once",
    "intervals of the best cover": "Coverage, all intervals against the best beside those against a baseline",
    "best dropped": "The best arm dropped from the unresolved set",
    "optimum covered": "Coverage of the optimum's interval",
    "false alarm": "False alarms of the doctor on clean tables",
    "defect found": "Planted blocking defects found by the doctor",
    "null kept": "Loops that ever keep a change that is no improvement",
    "optimum statement true": "Truth of any statement on the optimum, bounds included",
}


QUOTED = ("<!-- loops: begin -->", "<!-- loops: end -->")
"""Between these another page has the table of loops."""


@dataclass(frozen=True)
class Section:
    table: str
    title: str
    told: str
    columns: tuple[tuple[str, str, str], ...]
    """Heading, measure, format."""


_WINNERS = (
    ("false winners", "false winner", "%"),
    ("least mean", "false winner, least mean", "%"),
    ("t-test", "false winner, t-test", "%"),
    ("bootstrap", "false winner, bootstrap", "%"),
)
_TIES = (
    ("false ties", "false tie", "%"),
    ("t-test", "false tie, t-test", "%"),
    ("bootstrap", "false tie, bootstrap", "%"),
)
_REGRET = (("regret", "regret", "mnats"), ("one seed's", "regret of one seed", "mnats"))
_COVERS = (("covers", "intervals cover", "%"),)
_DECIDED = (("decided", "decided", "%"),)

SECTIONS = (
    Section(
        "nulls",
        "Nothing differs",
        "All arms are equally good, so every winner is a false one.",
        (*_WINNERS, ("best dropped", "best dropped", "%"), *_COVERS),
    ),
    Section(
        "unpaired",
        "Arms without common seeds",
        "Every arm has seeds of its own, so its runs are compared unpaired. Of equal arms every winner is a false one; "
        '"decided" is the share of verdicts that are no longer open. Where the noise is known, single runs are judged.',
        (("false winners", "false winner", "%"), ("best dropped", "best dropped", "%"), *_COVERS, *_DECIDED),
    ),
    Section(
        "ties",
        "Arms that differ by exactly the smallest difference that matters",
        "One arm is the best, all others are worse by .005 nats, which is `min_effect`: the hardest case for a tie.",
        (*_WINNERS, *_TIES, *_COVERS, *_DECIDED),
    ),
    Section(
        "contrasts",
        "Two arms, any difference",
        "The true difference is drawn anew each time (normal, sd .01 nats); `min_effect` is .005.",
        (*_WINNERS, *_TIES, *_COVERS, *_DECIDED, *_REGRET),
    ),
    Section(
        "ablations",
        "Ablations",
        "A baseline, two changes and both together, five seeds: each helps by .01 nats and both cancel; each helps "
        "and they add up; only one does anything.",
        (*_WINNERS, *_TIES, *_COVERS, ("of the best", "intervals of the best cover", "%"), *_DECIDED),
    ),
    Section(
        "factorials",
        "Factorials of single runs",
        "Changes in every combination, or six in 16 of 64, one run an arm; the interactions serve as noise. A change "
        "that does nothing and is told from 0 is a false winner. *Found*: of the changes that act, those told from 0. "
        "A real interaction makes no claim false: it counts as noise and hides effects.",
        (
            ("false winners", "false winner", "%"),
            ("false ties", "false tie", "%"),
            *_COVERS,
            ("found", "effects found", "%"),
        ),
    ),
    Section(
        "sweeps",
        "Verdicts between the rates of a sweep",
        "Nine rates a factor of sqrt(2) apart, optimum anywhere between the middle ones.",
        (*_WINNERS, *_TIES, *_COVERS, *_DECIDED, *_REGRET),
    ),
    Section(
        "races",
        "Looking while it runs: races",
        "Seeds are added at 3, 5, 8, 12 and 16, only to arms about which something is unsettled; an error counts at "
        "whatever look it was made. Beside it, for two arms: the same rule without paying for its looks, after every "
        "seed from 3 to 16; the t-test repeated until it is significant once; the e-process, which may be looked at "
        "after every seed. Seeds are those used of 16, on average over the arms; regret beside that of a fixed "
        "design of three and of sixteen seeds.",
        (
            ("false winners", "false winner", "%"),
            ("unadjusted, every seed", "false winner, unadjusted at every seed", "%"),
            ("t-test, every seed", "false winner, t-test at every seed", "%"),
            ("e-process, every seed", "false winner, e-process at every seed", "%"),
            ("false ties", "false tie", "%"),
            ("unadjusted, every seed", "false tie, unadjusted at every seed", "%"),
            ("best dropped", "best dropped", "%"),
            ("settled", "settled", "%"),
            ("seeds", "runs used", "1"),
            ("regret", "regret", "mnats"),
            ("3 seeds'", "regret of 3 seeds", "mnats"),
            ("16 seeds'", "regret of 16 seeds", "mnats"),
        ),
    ),
    Section(
        "more",
        '"N more seeds"',
        "Two arms, difference drawn anew (normal, sd .01 nats). Of the studies that were inconclusive and told that "
        "N more seeds would settle it, this share was settled after exactly N more; the advice is meant to be right "
        "in 80%. Advice of more than 200 seeds was not followed.",
        (
            ("inconclusive", "inconclusive", "%"),
            ("N <= 200", "advice followed", "%"),
            ("settled after N", "settled after N more", "%"),
            ("N <= 5", "settled after N more, N <= 5", "%"),
            ("6 to 20", "settled after N more, N 6 to 20", "%"),
            ("21 to 200", "settled after N more, N 21 to 200", "%"),
            ("mean N", "N", "1"),
        ),
    ),
    Section(
        "loops",
        "Loops that keep and discard",
        "Loops of 100 changes; each run has noise of sd 1, and improvements, ten where there are any, are of 1 to 3 "
        "sds. A loop *keeps a null* if it keeps any change that is no improvement; the share is that of null changes "
        "among those kept, by loop; the gain is the true one, in sds. The judge's bound is proved for Gaussian noise "
        "that is the same in all arms ([judge.md](judge.md)); unequal noise has an sd of 1/2, 1 or 2, by arm.",
        (
            ("runs", "runs", "1"),
            ("keeps a null", "null kept", "%"),
            ("nulls kept", "nulls", "2"),
            ("share", "null share", "%"),
            ("improvements kept", "improvements", "1"),
            ("gain", "gain", "1"),
            ("gain per 100 runs", "gain per 100", "1"),
        ),
    ),
    Section(
        "optima",
        "Where the optimum lies",
        "Thirteen rates a factor of sqrt(2) apart. *Located*: an interval is given; else the optimum is bounded on "
        "one side, or nothing is said. *Covers*: of the intervals given, those that hold the optimum (of a plateau: "
        "any point of it). *Parabola*: the habit of fitting one parabola a seed over the whole range, with a t "
        "interval of its lowest points. *True*: of all statements, bounds included. Width as a factor of the rate.",
        (
            ("located", "located", "%"),
            ("covers", "optimum covered", "%"),
            ("parabola", "optimum covered, parabola", "%"),
            ("true", "optimum statement true", "%"),
            ("best dropped", "best dropped", "%"),
            ("width", "width", "x"),
            ("unresolved rates", "unresolved", "1"),
        ),
    ),
    Section(
        "clean",
        "The doctor on clean tables",
        "Tables of 9 to 13 rates, 3 to 5 seeds and three fresh ones for the best, with the columns that people keep "
        "(perplexity, accuracy, tokens, times ...) and nothing wrong with them. Any finding, blocking or not, is a "
        "false alarm.",
        (("false alarms", "false alarm", "%"), ("that block", "blocked", "%")),
    ),
    Section(
        "defects",
        "The doctor on planted defects",
        "The same tables with one blocking defect each. Defects of designs, of a run's internals and of written "
        "reports are planted in `tests/judge/audits`.",
        (("found", "defect found", "%"),),
    ),
)
