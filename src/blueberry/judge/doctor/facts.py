"""What a report says of how its runs were made: seeds, steps, accumulation, vocabulary, context."""

import re
from collections.abc import Iterable

from blueberry.judge.doctor.document import Document, Line
from blueberry.judge.doctor.printed import NUMBER, number, plain, quantity

_WORDS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_COUNT = rf"(?P<n>\d+|{'|'.join(_WORDS)})"
_SEEDS = re.compile(
    rf"\b{_COUNT}\s+(?:[a-z-]+\s+){{0,2}}(?:seeds|blocks|repeats|replicates|seed pairs)\b|\bn\s*=\s*(?P<m>\d+)|"
    r"\bseeds?:?\s+(?P<low>\d+)\s*(?:-|to|\.\.+)\s*(?P<high>\d+)|\bseeds:\s*(?P<k>\d+)(?![\d.,])|"
    r"\bseeds:?\s+(?P<list>\d+(?:\s*(?:,|and)\s*\d+)+)",
    re.IGNORECASE,
)
_ONE_SEED = re.compile(r"\b(?:seed\s*[=:]?\s*(?P<seed>\d+)|(?:one|a single|1|fixed)\s+seeds?)\b", re.IGNORECASE)
_STEPS = re.compile(
    r"\btrained for (?P<a>\d[\d,]*) (?P<ua>steps|updates|iterations)|"
    r"\b(?P<b>\d[\d,]*)[- ](?:training[- ])?(?P<ub>step|update)s?(?: training| each| per (?:experiment|run))|"
    r"\b(?P<c>\d[\d,]*) training (?P<uc>steps|updates)|"
    r"\btraining (?P<ud>steps|updates)\W{1,3}(?P<d>\d[\d,]*)(?!\s*%)",
    re.IGNORECASE,
)


def num_seeds(document: Document) -> int:
    """The most seeds that the report says any number is from; 1 if it says nothing of seeds."""
    said = [_seeds_in(line.text) for line in document.lines]
    for table in document.tables:
        header = [plain(cell).lower() for cell in table.header]
        said.append(sum(bool(re.fullmatch(r"(seed|run|repeat)\s*#?\d+", head)) for head in header))
        for at, head in enumerate(header):
            if quantity(head) != "seeds":
                continue
            cells = [value.value for row in table.rows if (value := number(plain(row[at])))]
            if head == "seed":
                said.append(len(set(cells)))
            elif cells:
                said.append(int(min(cells)))
        said += [_seeds_in(" ".join(map(plain, row))) for row in (table.header, *table.rows)]
    return max([1, *said])


def _seeds_in(text: str) -> int:
    found = [1]
    for match in _SEEDS.finditer(text):
        count = match["n"] or match["m"] or match["k"]
        if count:
            found.append(int(count) if count.isdigit() else _WORDS.index(count.lower()) + 2)
        elif match["list"]:
            found.append(len(set(re.findall(r"\d+", match["list"]))))
        else:
            found.append(int(match["high"]) - int(match["low"]) + 1)
    return max(found)


def the_one_seed(document: Document) -> tuple[str, int] | None:
    """The seed that all runs are said to have, and where; None if none is said."""
    said = [(match, line.number) for line in document.lines for match in _ONE_SEED.finditer(line.text)]
    named = [(match.group(), number) for match, number in said if match["seed"]]
    return next(iter(named + [(match.group(), number) for match, number in said]), None)


def num_steps(document: Document) -> tuple[int, bool] | None:
    """The length of a run, and whether it is said to be in updates; None if it is not said."""
    for line in document.lines:
        match = _STEPS.search(line.text)
        if match:
            group = next(name for name in "abcd" if match[name])
            return int(match[group].replace(",", "")), match[f"u{group}"].lower().startswith("update")
    return None


def accumulation(document: Document) -> tuple[int, int] | None:
    """Micro-batches in an update, and where that is said; None if it is not."""
    for line in document.lines:
        match = re.search(r"accumulation\w*\s*[:=]\s*(\d+)", line.text, re.IGNORECASE)
        if match and int(match[1]) > 1 and not re.search(r"→|->|=>", line.text):
            return int(match[1]), line.number
    return None


def labelled_number(lines: Iterable[Line], label: str) -> float | None:
    """The first number that stands close after a label (a regular expression)."""
    for line in lines:
        match = re.search(rf"(?:{label})[^\d\n]{{0,30}}({NUMBER})", line.text, re.IGNORECASE)
        if match:
            return float(match[1].replace(",", ""))
    return None
