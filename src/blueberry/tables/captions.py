"""What the text around a table says that its cells measure, where no column is called so.

Only a loss that is named plainly counts: validation loss, perplexity, bits per byte. A loss that was changed, compared,
trained with or got to in some time is none, and neither is one beside an accuracy. Then a person is asked.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from blueberry.records import goal_of
from blueberry.tables.columns import word_set
from blueberry.tables.rows import bare, is_finite

PLAUSIBLE = {"loss": (1.0, 13.0), "perplexity": (1.0, 1e5), "bits_per_byte": (0.3, 8.0), "bpc": (0.3, 8.0)}
"""Of such a quantity of text, the median: what a title far above, or the file's name, must agree with. A vocabulary of
400,000 is guessed at a loss of 13; what lies between 0 and 1 may be any share."""


LONGEST = 400
"""Characters of a sentence or a heading that are read."""


@dataclass(frozen=True)
class Said:
    """What was found. Neither a loss nor others: nothing was named."""

    loss: str | None = None
    """The name of its column."""
    others: tuple[str, ...] = ()
    """What was named besides or instead, as it stands there."""
    by: str = ""
    """Who says so, e.g. "its header"."""

    @property
    def where(self) -> str:
        return f", as {self.by} says" if self.loss else ""

    @property
    def question(self) -> str:
        """The rest of a line that asks for the metric."""
        what = "a run in each cell, and nothing beside or above it names what was measured"
        if self.others:
            what = f"a run in each cell; {self.by} names {' and '.join(self.others[:3])}"
        goal = goal_of(self.others[0]) if len(self.others) == 1 else None
        name = "NAME" if goal is None else f'"{self.others[0]}"'
        more = {"maximize": ", and --goal maximize", "minimize": ""}
        asked = f"{name}{more.get(goal or '', ', and --goal maximize where more of it is better')}"
        return f"{what}; only a named loss is taken without asking; say --metric {asked}"


def what_is_measured(header: str, caption: str, headings: Sequence[str], stem: str, cells: Sequence[Any]) -> Said:
    """By the header of the table, the sentences above it, its headings from the nearest on, and last the name of its
    file: the first that names a metric decides.

    A sentence before the last one, a heading above the nearest and a file's name may be about something else: a loss
    named there counts where `cells` have the size of one.
    """
    sentences = [bare(one) for one in re.split(r"(?<=[.;!?])\s+", caption)[::-1] if one]
    numbers = [float(value) for value in cells if is_finite(value)]
    near = [("its header", header), *(("the sentence above it", one) for one in sentences[:1])]
    near += [("its heading", one) for one in headings[:1]]
    far = [("the text above it", one) for one in sentences[1:]]
    far += [("a heading above it", one) for one in headings[1:]] + [("the name of its file", stem)]
    order = [*near[:2], *far[: len(sentences[1:])], *near[2:], *far[len(sentences[1:]) :]]
    for by, text in order:
        loss, others = named_in_text(text)
        if others:
            return Said(None, (*((loss,) if loss else ()), *others), by)
        if loss and ((by, text) in near or _is_plausible(loss, numbers)):
            return Said(loss, (), by)
    return Said()


def says_what_is_measured(text: str) -> bool:
    loss, others = named_in_text(text)
    return bool(loss or others)


def named_in_text(text: str) -> tuple[str | None, tuple[str, ...]]:
    """The one loss that a text names, as a column is called, and metrics of other kinds."""
    text = re.sub(r"[*`_]+", " ", text[:LONGEST])
    reached = _REACHED.search(text)
    found = [match for match in _LOSS.finditer(text) if _is_plain(match, text)]
    if reached and found and reached.end() <= found[0].start():
        return None, (" ".join(text.split())[:60],)
    others = list(dict.fromkeys(match.group() for match in _WORD.finditer(text) if _is_other(match["what"])))
    if found and _MORE_IS_BETTER.search(text):
        others.append("that more is better")
    whats = {_HEADS.get(_plain(match["what"]), "loss") for match in found}
    if len(whats) > 1 and whats & {"bits_per_byte", "bpc"}:
        whats -= {"loss"}  # its unit
    splits = {_split(match["of"]) for match in found}
    splits -= {""} if len(splits) > 1 else set()
    if len(whats) > 1 or len(splits) > 1:
        return None, tuple(" ".join(match.group().split()) for match in found)
    names = ["_".join(filter(None, (*splits, *whats)))] if found else []
    return (names[0] if names else None), tuple(others)


_SPLITS = {"val": "val", "valid": "val", "validation": "val", "eval": "val", "evaluation": "val", "dev": "val",
           "held": "val", "test": "test", "train": "train", "training": "train"}  # fmt: skip
_OF = (
    r"(?:val(?:id(?:ation)?)?|eval(?:uation)?|dev|held[ -]?out|test|train(?:ing)?|final|best|mean|average|avg|lowest"
    r"|per[ -]token|token|cross[ -]entropy|ce|lm|language[ -]model(?:l?ing)?)[ /-]+"
)
_LOSS = re.compile(
    rf"(?<![^\W\d_])(?P<of>(?:{_OF})*)(?P<what>loss(?:es)?|nll|perplexit(?:y|ies)|ppl|bpb|bpc|cross[ -]entropy"
    r"|bits[ /-](?:per[ -])?(?:byte|char(?:acter)?)|nats ?(?:per|/) ?token)(?![^\W\d_])",
    re.IGNORECASE,
)
_HEADS = {"perplexity": "perplexity", "perplexities": "perplexity", "ppl": "perplexity", "bpb": "bits_per_byte",
          "bits per byte": "bits_per_byte", "bits byte": "bits_per_byte", "bpc": "bpc", "bits per character": "bpc",
          "bits per char": "bpc", "bits character": "bpc", "bits char": "bpc"}  # fmt: skip
_CHANGED = (
    r"(?:delta|[\u0394\u2206\u03b4]|diff(?:erence)?s?|gaps?|gains?|improvements?|reductions?|changes?|drops?|decreases?"
    r"|increases?|spread|variance|std|sd)"
)
_BEFORE = re.compile(
    rf"(?:\b{_CHANGED}(?: (?:in|of|to))?(?: the)?|\b(?:with|using|under|minus|neg|negative|log|inverse|relative|same"
    r"|normali[sz]ed|auxiliary|aux)(?: the)?|(?<!\w)-)[ -]*$",
    re.IGNORECASE,
)
_AFTER = re.compile(
    rf"[ -]*(?:{_CHANGED}|functions?|weights?|weighting|terms?|types?|scales?|scaling|coefficients?|variants?|ratios?"
    r"|spikes?|penalt\w+|ablations?|threshold|target)\b",
    re.IGNORECASE,
)
_WORD_BEFORE = re.compile(r"([^\W\d_]+)[ -]$")
_MAY_STAND_BEFORE = word_set(
    "of the and in by is are our a as for per each all raw resulting results result report reports show shows list "
    "lists give gives has have measured seed seeds run runs table"
)
_REACHED = re.compile(
    r"\b(?:time|steps?|tokens?|updates?|epochs?|iterations?|hours?|minutes?|seconds?|flops?|samples?|compute)\b"
    r"[^.;:]{0,40}?\b(?:to|until|till|before|needed|required)\b",
    re.IGNORECASE,
)
_MORE_IS_BETTER = re.compile(
    r"\b(?:higher|larger|greater|bigger|more)(?: is| =| are)? better|\u2191|\bmaximi[sz]", re.IGNORECASE
)
_WORD = re.compile(
    r"(?:\b(?:val(?:idation)?|eval(?:uation)?|dev|test|train(?:ing)?)[ /-]+)?"
    r"(?P<what>(?:win|success|pass)[ -]rate|pass@\d+|[^\W_]+(?: per |/)s(?:ec(?:ond)?)?\b|[^\W_]+)",
    re.IGNORECASE,
)
_ALSO_PLAIN_WORDS = word_set(
    "precision correct match matches matched pass passed return returns success win wins solved hits utilization "
    "utilisation f16 f32 f64 f8"
)
_LESS = word_set("rmse mse mae wer cer fid")


def _is_plain(match: re.Match[str], text: str) -> bool:
    """Whether it is the loss itself, and neither changed nor part of the name of another thing."""
    before, after = text[: match.start()], text[match.end() :]
    if _BEFORE.search(before) or _AFTER.match(after):
        return False
    word = _WORD_BEFORE.search(before)
    may_be_named = _split(match["of"]) or _plain(match["what"]) in _HEADS
    return bool(may_be_named) or word is None or word[1].casefold() in _MAY_STAND_BEFORE


def _is_other(word: str) -> bool:
    folded = word.casefold()
    return folded in _LESS or (folded not in _ALSO_PLAIN_WORDS and goal_of(word) == "maximize")


def _split(of: str) -> str:
    """The part of the data; "final" of a loss is one too, as it is in a column's name."""
    words = re.findall(r"[a-z]+", of.casefold())
    return next((_SPLITS[word] for word in words if word in _SPLITS), "final" if "final" in words else "")


def _plain(what: str) -> str:
    return " ".join(re.split(r"[ /-]+", what.casefold()))


def _is_plausible(loss: str, numbers: Sequence[float]) -> bool:
    least, most = next((range_ for what, range_ in PLAUSIBLE.items() if loss.endswith(what)), PLAUSIBLE["loss"])
    return bool(numbers) and least <= median(numbers) <= most
