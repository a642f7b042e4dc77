"""What a report claims, against what it says of its runs: phrases, which are data, and the few rules that count."""

import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from blueberry.judge import words
from blueberry.judge.audits import block, warn
from blueberry.judge.audits.comparable import DRIFT_NATS
from blueberry.judge.audits.design import LEAST_WARMUP_UPDATES
from blueberry.judge.audits.runs import CLOCK
from blueberry.judge.judgement import Audit
from blueberry.judge.measured import LEAST_BLOCKS
from blueberry.proofread.changes import changes
from blueberry.proofread.document import Document, Line, Result
from blueberry.proofread.printed import Number, cell, quantity, words_of

_METRICS = ("val_loss", "val_bits_per_byte", "val_perplexity", "val_accuracy")
LEAST_CHOICE = 4
"""The best of fewer arms flatters itself by less than the noise of one run."""
_COUNTS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_N = rf"(\d{{1,4}}|{'|'.join(_COUNTS)})"
_SEED_COUNTS = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\b{_N}[ -](?:[a-z-]+ ){{0,2}}?(?:seeds?|seed pairs|repeats|replicates|replications)\b",
        rf"\b{_N}[ -](?:independent|repeated|separate|identical|random) (?:[a-z-]+ )?(?:runs|trials)\b",
        rf"\b(?:over|across|mean of|average of|median of) (?:the |all )?{_N} (?:[a-z-]+ )?(?:runs|trials)\b",
        rf"\b{_N} (?:runs|trials) (?:each|per|of each|for each|apiece)\b",
        rf"\bn ?= ?{_N}\b(?![.,]\d)",
        rf"\bseeds: {_N}(?![\d.,-]| ?[,;-] ?\d)",
    )
]
_SEED_RANGE = re.compile(r"\bseeds:? (\d{1,6}) ?(?:-|to|\.\.+) ?(\d{1,6})\b", re.IGNORECASE)
_SEED_LIST = re.compile(r"\bseeds:?(?: of| \()? ?(\d{1,9}(?:(?:, and |, ?| and |/)\d{1,9}){1,40})", re.IGNORECASE)
_VALUES = re.compile(r"(?:loss|bpb|acc\w*|ppl|perplexity)\w*\W{1,4}\[(\d+\.\d+(?:, ?\d+\.\d+){2,40})\]", re.IGNORECASE)
_NAMED_SEED = re.compile(r"\bseed ?[=:]? ?(\d{1,9})\b", re.IGNORECASE)
_ONE_SEED = re.compile(r"\b(?:one|a single|1|fixed|same)[ -]seeds?\b", re.IGNORECASE)
_SEED_COLUMN = re.compile(r"(?:seed|run|repeat|trial) ?#?\d+", re.IGNORECASE)
_UNIT = r"(steps?|updates?|iterations|iters)"
_LENGTH = r"(\d{1,3}(?:,\d{3})+|\d{1,9})([kKM]?)"
_LENGTHS = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\b(?:train(?:ed|s|ing)?|r[au]n(?:s|ning)?|lasts?|took|takes?)(?: \w+)?(?: for| to| at)? {_LENGTH} "
        rf"(?:training |optimizer )?{_UNIT}\b",
        rf"\b{_LENGTH} (?:training |optimizer )?{_UNIT} (?:each|long|per|for each|of training|training)\b",
        rf"\b{_LENGTH}[- ](?:training[- ])?{_UNIT}[- ](?:training|runs?)\b",
        rf"\b(?:max_|num_|total_|train_|n_)?{_UNIT}\b ?[:=] ?{_LENGTH}\b(?! ?%)",
        rf"(?<!every )(?<!first )(?<!last )(?<!final )(?<!per )(?<!over )(?<!of )\b{_LENGTH} "
        rf"(?:training |optimizer )?{_UNIT}\b"
        r"(?! (?:warm|cool|decay|earlier|fewer|less|more|faster|of (?:warm|cool|decay|linear|accum)))",
    )
]
_NOT_THE_LENGTH = re.compile(
    r"(?:accumul|warm-?up|cool-?down|evaluat|frequen|interval)[^,;.]*$|every\W*$", re.IGNORECASE
)
_BETTER = re.compile(
    r"\b(?:best|better|optimal|optimum|winner|wins?|outperform\w*|improve[sd]?|improvements?|beats?|"
    r"superior|lower loss)\b",
    re.IGNORECASE,
)
_CHOSEN = re.compile(r"\b(?:best|optimal|optimum|winner|wins|sweet spot|recommend\w*)\b", re.IGNORECASE)
_HEDGED = re.compile(
    r"\b(?:not|cannot|can't|n't|may|might|whether|unknown|would|could|unless|untested|best practices?)\b", re.I
)
_TESTED = re.compile(
    r"\btest(?:[- ](?:set|split|data))?(?: set)?(?: (?:loss|accuracy|perplexity|ppl|bpb))?\b[^.;|?]{0,60}\d\.\d|"
    r"\d\.\d{2,}[^.;|?]{0,30} on (?:the )?(?:held-out )?test\b",
    re.IGNORECASE,
)
_TEST_SET = re.compile(r"\btest (?:set|split)\b|\bheld-out test\b", re.IGNORECASE)
_CONFIRMED = re.compile(
    r"fresh seeds?|new seeds?|confirm\w* (?:on|run|seed|with)|re-?ran|run again|re-?run|seeds? that did not choose|"
    r"replicat\w+ (?:on|with)|"
    r"\bt-test\b|\bp ?[<=]|\b95% (?:CI|conf|interval)",
    re.IGNORECASE,
)
_BATCH_MOVES = re.compile(
    r"accumulation\w*\W{1,4}(?:from )?(\d{1,4})(?: steps)? ?(?:→|-{1,2}>|=>|to) ?(\d{1,4})\b(?! ?%)", re.IGNORECASE
)
_SAME_TOKENS = re.compile(
    r"(?:same|equal|fixed|constant|matched|identical) (?:number of )?(?:tokens|updates|compute|budget|flops)", re.I
)
_WARMUP = re.compile(
    r"\bwarm-?up(?:[ _](?:ratio|fraction|duration|steps))?(?: ?[:=])?(?: (?:of|from|is|was))? (\d{1,2}(?:\.\d+)?) ?%"
    r"(?: ?(?:→|-{1,2}>|to) ?(\d{1,2}(?:\.\d+)?) ?%)?",
    re.IGNORECASE,
)
_OF_TIME = re.compile(
    r"\b(?:faster|slower|speed-?up|same (?:training )?time|no (?:\w+ )?overhead|efficien\w+)\b", re.IGNORECASE
)
_STAGE = re.compile(r"\b(?:phase|stage|round|part|study|step)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Phrase:
    """One entry of phrases.toml."""

    audit: str
    severity: str
    message: str
    remedy: str
    pattern: re.Pattern[str]
    conditions: dict[str, re.Pattern[str]]

    def found(self, sentence: str) -> str | None:
        """What is said, where the sentence says it without a condition that takes it back."""
        match = self.pattern.search(sentence)
        if match is None:
            return None
        needs, unless = self.conditions.get("with"), self.conditions.get("unless")
        before, after = self.conditions.get("unless_before"), self.conditions.get("unless_after")
        if (needs and not needs.search(sentence)) or (unless and unless.search(sentence)):
            return None
        if (before and before.search(sentence[: match.start()])) or (after and after.match(sentence[match.end() :])):
            return None
        return match.group()

    def applies(self, text: str) -> bool:
        needs, unless = self.conditions.get("document"), self.conditions.get("unless_document")
        return (needs is None or bool(needs.search(text))) and (unless is None or not unless.search(text))


@cache
def phrases() -> tuple[Phrase, ...]:
    entries = tomllib.loads(Path(__file__).with_name("phrases.toml").read_text(encoding="utf-8"))["phrase"]
    return tuple(_phrase(dict(entry)) for entry in entries)


def _phrase(entry: dict[str, Any]) -> Phrase:
    kept = {name: entry.pop(name) for name in ("audit", "severity", "message", "remedy")}
    looks = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in entry.items()}
    return Phrase(**kept, pattern=looks.pop("pattern"), conditions=looks)


def audit_claims(document: Document) -> list[Audit]:
    """Every finding in the words of a report; none for a page that has no number of a run."""
    if not document.results:
        return []
    said = list(audit_phrases(document))
    found = [finding for look in CLAIM_AUDITS.values() for finding in look(document)]
    if not any(one.audit == "selection" for one in said):
        found += selection(document, is_general=any(one.audit == "transfer" for one in said))
    return [*found, *(one for i, one in enumerate(said) if one.audit not in {before.audit for before in said[:i]})]


def audit_phrases(document: Document) -> Iterator[Audit]:
    """One finding for all lines that say a thing."""
    length = length_of(document)
    unit = f" of {length[0]:,} {length[1]}" if length else ""
    for phrase in phrases():
        if not phrase.pattern.search(document.said) or not phrase.applies(document.text):
            continue
        lines = document.claims_and_rows
        found = [(line, said) for line in lines for one in line.sentences if (said := phrase.found(one))]
        if found:
            places = words.listing([str(line) for line in sorted({line.number for line, _ in found})], most=3)
            message = phrase.message.replace("{said}", found[0][1].strip()).replace("{length}", unit)
            make = block if phrase.severity == "block" else warn
            yield make(phrase.audit, f"{document.name}:{places}: {message}", phrase.remedy)


def num_seeds(document: Document) -> int:
    """The most seeds that the report says any number is from; 1 if it says nothing of seeds."""
    texts = [line.text for line in document.lines] + [
        " ".join(row) for table in document.tables for row in (table.header, *table.rows)
    ]
    found = [1, len({seed for text in texts for seed in _NAMED_SEED.findall(text)})]
    for text in texts:
        for look in _SEED_COUNTS:
            found += [int(n) if n.isdigit() else _COUNTS.index(n.lower()) + 1 for n in look.findall(text)]
        found += [int(high) - int(low) + 1 for low, high in _SEED_RANGE.findall(text)]
        found += [len(set(re.findall(r"\d+", listed))) for listed in _SEED_LIST.findall(text)]
        found += [listed.count(",") + 1 for listed in _VALUES.findall(text)]
    counts = [row.numbers["seeds"].value for row in document.results if "seeds" in row.numbers]
    found += [int(min(counts))] if counts else []
    for table in document.tables:
        found.append(sum(bool(_SEED_COLUMN.fullmatch(head)) for head in table.header))
        for at, head in enumerate(table.header):
            kind = quantity(head)
            cells = [value.value for row in table.rows if (value := cell(row[at], None))] if kind else []
            if kind == "seed":
                found.append(len(set(cells)))
            elif kind == "seeds" and cells:
                found.append(int(min(cells)))
    return max(found)


def length_of(document: Document) -> tuple[int, str] | None:
    """How long a run is, and the unit it is said in ("steps", "updates"); None if it is not said."""
    rows = [": ".join(row[:2]) for table in document.tables for row in table.rows if len(row) == 2]
    lines = [text for text in [*(line.text for line in document.lines), *rows] if re.search(r"\d", text)]
    for look in _LENGTHS:
        for text in lines:
            match = look.search(text)
            if match and not _NOT_THE_LENGTH.search(text[max(match.start() - 30, 0) : match.start()]):
                groups = [one for one in match.groups() if one]
                digits = next(one for one in groups if one[0].isdigit())
                unit = next(one for one in groups if len(one) > 1 and not one[0].isdigit()).lower()
                scale = {"k": 1000, "K": 1000, "M": 10**6}.get(next((one for one in groups if one in "kKM"), ""), 1)
                return int(digits.replace(",", "")) * scale, "updates" if unit.startswith("update") else "steps"
    return None


def _compared(document: Document) -> list[tuple[str, list[Result]]]:
    """Tables and lists of arms or rates of one kind of run, each with its validation metric, best first."""
    found = []
    for listed in document.blocks:
        kind = next((name for name in _METRICS if sum(name in row.numbers for row in listed.ends) >= 2), "")
        rows = [row for row in listed.ends if kind in row.numbers]
        if listed.varies in ("arm", "rate") and len({row.subject for row in rows}) >= 2:
            found.append((kind, sorted(rows, key=lambda row: _badness(kind, row.numbers[kind].value))))
    return found


def _badness(kind: str, value: float) -> float:
    return -value if kind == "val_accuracy" else value


def _claiming(document: Document, look: re.Pattern[str]) -> list[Line]:
    return [line for line in document.claims for one in line.sentences if look.search(one) and not _HEDGED.search(one)]


def seeds(document: Document) -> list[Audit]:
    """Arms compared, and one called better, on fewer seeds than tell anything from chance."""
    compared, count = _compared(document), num_seeds(document)
    if count >= LEAST_BLOCKS or not compared or not _claiming(document, _BETTER):
        return []
    one = next(
        (m for line in document.lines for m in (_NAMED_SEED.search(line.text), _ONE_SEED.search(line.text)) if m), None
    )
    if count > 1:
        what = f"every number is from {count} seeds at most"
    elif one:
        what = f"every number is from one seed ({one.group()})"
    else:
        what = "nothing is said of seeds, and each configuration has one number"
    message = f"{document.name}: {what}; with fewer than {LEAST_BLOCKS} no difference can be told from chance"
    is_close = any(_gap(kind, rows[0].numbers[kind], rows[1].numbers[kind]) <= DRIFT_NATS for kind, rows in compared)
    make = block if is_close or one or count > 1 else warn
    return [make("seeds", message, f"run every configuration on at least {LEAST_BLOCKS} seeds, and print how many")]


def _gap(kind: str, best: Number, other: Number) -> float:
    """Between the best two, on the scale of a loss in nats."""
    apart = abs(other.value - best.value)
    if kind == "val_perplexity":
        return apart / max(best.value, 1.0)
    return apart * (2.6 if kind == "val_accuracy" else 1.0)


def selection(document: Document, *, is_general: bool = False) -> list[Audit]:
    """The set that chose is the set that reports, in a report that knows of a test set or claims more than it ran.

    Where a benchmark's validation set is its test, nothing is said: only that the best of many is reported as it was
    chosen (`curse`).
    """
    texts = [line.text for line in document.lines] + [" ".join(row) for table in document.tables for row in table.rows]
    is_tested = any(kind.startswith("test_") for row in document.results for kind in row.numbers)
    is_tested |= any(_TESTED.search(text) for text in texts)
    chosen, compared = _claiming(document, _CHOSEN), _compared(document)
    if is_tested or not chosen or not compared:
        return []
    places = words.listing([str(n) for n in sorted({line.number for line in chosen})], most=3)
    if is_general or any(_TEST_SET.search(text) for text in texts):
        message = "a best is claimed on the validation set that chose it; there is no number of a test set"
        remedy = "print the winner's loss on a test set that chose nothing"
        return [block("selection", f"{document.name}:{places}: {message}", remedy)]
    most = max(len(rows) for _, rows in compared)
    is_named = any(
        rows[0].numbers[kind].text in line.text or rows[0].subject in line.text
        for line in chosen
        for kind, rows in compared
        if len(rows) == most
    )
    if most < LEAST_CHOICE or not is_named or any(_CONFIRMED.search(text) for text in texts):
        return []
    message = f"the best of {most} is reported from the runs that chose it, so it flatters itself"
    return [warn("curse", f"{document.name}:{places}: {message}", "run it again on fresh seeds and print both numbers")]


def budget(document: Document) -> list[Audit]:
    """Accumulation changes the updates, or the tokens, of a run of so many steps."""
    length = length_of(document)
    for line in document.claims:
        moved = _BATCH_MOVES.search(line.text)
        if moved and moved[1] != moved[2] and "0" not in moved.groups() and not _SAME_TOKENS.search(document.text):
            at = ""
            if length and length[1] == "steps":
                at = f": {length[0]} steps are {length[0] / int(moved[1]):g} and {length[0] / int(moved[2]):g} updates"
            message = f"gradient accumulation {moved[1]} -> {moved[2]} changes the updates or the tokens of a run{at}"
            remedy = "give both arms the same updates and tokens, and print them"
            return [
                warn("budget", f"{document.place(line.number)}: {message}; the gain may be the larger budget", remedy)
            ]
    return []


def schedule(document: Document) -> list[Audit]:
    """A warmup of hardly any update."""
    length = length_of(document)
    shares = [
        (float(share) / 100, line.number)
        for line in document.claims
        for found in _WARMUP.findall(line.text)
        for share in found
        if share and float(share) > 0
    ]
    if length is None or not shares or min(shares)[0] * length[0] >= LEAST_WARMUP_UPDATES:
        return []
    least, line = min(shares)
    message = (
        f"{document.place(line)}: a warmup of {least:.3g} of {length[0]} {length[1]} is {least * length[0]:.3g}; "
        f"fewer than {LEAST_WARMUP_UPDATES} are a jump, no warmup"
    ).replace(f"{least:.3g} of", f"{least:.2%}".rstrip("0%").rstrip(".") + "% of")
    return [warn("schedule", message, "compare warmups in runs long enough for them to differ")]


def clock(document: Document) -> list[Audit]:
    """Times that are compared and were printed too coarsely for it."""
    timed = [
        row for row in document.results if "train_seconds" in row.numbers and row.numbers["train_seconds"].value > 0
    ]
    times = [row.numbers["train_seconds"] for row in timed]
    if len(times) < 2 or any(time.half <= CLOCK * time.value for time in times) or not _claiming(document, _OF_TIME):
        return []
    message = (
        f"times are printed as {times[0].text}, exact to {times[0].half / times[0].value:.0%}; they cannot be compared"
    )
    remedy = f"print times to {CLOCK:.0%} or better, or do not compare them"
    return [warn("clock", f"{document.place(timed[0].line)}: {message}", remedy)]


def drift(document: Document) -> list[Audit]:
    """A stage that begins elsewhere than the one before it ended: one configuration, two numbers."""
    last: dict[str, tuple[Number, Line]] = {}
    for line in document.lines:
        for kind, a, b in changes(line) if any(_STAGE.search(name) for name in line.headings) else ():
            before = last.get(kind)
            last[kind] = (b, line)
            if (
                before
                and before[1].headings != line.headings
                and abs(before[0].value - a.value) > 2 * (a.half + before[0].half)
            ):
                message = (
                    f"{document.place(line.number)}: {words_of(kind)} goes on from {a.text}, and the stage before "
                    f"ended at {before[0].text} (line {before[1].number}); one configuration has two numbers"
                )
                return [
                    warn("drift", message, "measure both in one campaign; until then the gain may be this difference")
                ]
    return []


CLAIM_AUDITS: dict[str, Callable[[Document], list[Audit]]] = {
    "seeds": seeds,
    "budget": budget,
    "schedule": schedule,
    "clock": clock,
    "drift": drift,
}
