"""What a report says of seeds: how many its numbers are from, and on how many of them one arm is the better one."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from blueberry.judge.judgement import Audit, block
from blueberry.proofread.arithmetic import NUMBER, SEED_COLUMN, Number, cell, is_measured, quantity
from blueberry.proofread.document import QUANTITY, Document, is_statistic

# --- How many ---

_COUNTS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_ANY = rf"\d{{1,4}}|{'|'.join(_COUNTS)}"
_N = rf"({_ANY})"
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
NAMED_SEED = re.compile(r"\bseed ?[=:]? ?(\d{1,9})\b", re.IGNORECASE)


def num_seeds(document: Document) -> int:
    """The most seeds that the report says any number is from; 1 if it says nothing of seeds."""
    texts = [line.text for line in document.lines] + [
        " ".join(row) for table in document.tables for row in (table.header, *table.rows)
    ]
    found = [1, len({seed for text in texts for seed in NAMED_SEED.findall(text)})]
    for text in texts:
        found += [_counted(n) for look in _SEED_COUNTS for n in look.findall(text)]
        found += [int(high) - int(low) + 1 for low, high in _SEED_RANGE.findall(text)]
        found += [len(set(re.findall(r"\d+", listed))) for listed in _SEED_LIST.findall(text)]
        found += [listed.count(",") + 1 for listed in _VALUES.findall(text)]
    counts = [row.numbers["seeds"].value for row in document.results if "seeds" in row.numbers]
    found += [int(min(counts))] if counts else []
    for table in document.tables:
        found.append(sum(bool(SEED_COLUMN.fullmatch(head)) for head in table.header))
        for at, head in enumerate(table.header):
            kind = quantity(head)
            cells = [value.value for row in table.rows if (value := cell(row[at], None))] if kind else []
            if kind == "seed":
                found.append(len(set(cells)))
            elif kind == "seeds" and cells:
                found.append(int(min(cells)))
    return max(found)


def _counted(text: str) -> int:
    return int(text) if text.isdigit() else _COUNTS.index(text.lower()) + 1


# --- On how many of them one arm is better ---

_OF_WHAT = r"(?: (?:random|paired|shared|fresh|independent|training|individual|different|the|of|these|our))*"
_EVERY = (
    rf"(?:every|each|all)(?: (?:single|one|of|the|our|its|these))*(?: (?P<all>{_ANY}))?{_OF_WHAT} seeds?\b"
    rf"|(?P<some>{_ANY})(?: out)?(?: of |/)(?:the |our |its |all )?(?P<among>{_ANY}){_OF_WHAT} seeds\b"
)
_ON = r"(?:on|in|for|with|across|at|under) "
_SENSES = {
    "less": r"lower|smaller|below",
    "more": r"higher|greater|larger|above",
    "worse": r"worse|loses?|lost|behind|(?:beaten|outperformed) by",
    "better": r"better|wins?|won|winning|beats?|outperform(?:s|ed)?|improve[sd]?(?: on)?|improvements?|ahead|superior",
}
_RELATION = re.compile("|".join(rf"(?P<{sense}>\b(?:{said})\b)" for sense, said in _SENSES.items()), re.IGNORECASE)
_OF_ALL = r"(?= ?(?:[.,;:!()]|$)| (?:and|while|by|than|over|against|too)\b)"
"""What may follow: "every seed but one", "all seeds that ended" are fewer."""
_THEN = re.compile(rf"(?:{_ON})(?:{_EVERY}){_OF_ALL}", re.IGNORECASE)
_FIRST = re.compile(
    rf"(?:^|[;:,(] ?)(?:and |but )?{_ON}(?:{_EVERY})(?! (?:but|of|that|which|from|with|other|after|before|up)\b),?",
    re.IGNORECASE,
)
_NEAR = 70
"""Characters between the relation and the seeds."""
_NO_CLAIM = re.compile(
    r"\b(?:not|no|none|never|cannot|may|might|would|could|should|whether|if|unless|except|without|apart|almost|nearly|expect\w*|"
    r"mean|means|average\w*|averaging|median|pooled|sum|interval|sd|std|spread|variance|norms?|target|threshold|goal|"
    r"record|chance|time|faster|slower|speed\w*|memory|throughput|tokens|steps?|updates?|param\w*|gaps?|differences?|ratios?|compute|flops|cost\w*)\b"
    r"|\b(?:best|optimal|highest|largest) (?:learning )?rates?\b"
    r"|n't\b",
    re.IGNORECASE,
)
"""What takes such a claim back, or makes it one of something else than the numbers of seeds."""
_ANOTHER_VERB = re.compile(
    r"\b(?:train\w*|run|ran|runs|use[sd]?|using|evaluat\w*|measur\w*|test\w*|tun(?:e|ed|ing)|pick\w*|ch[oe]se\w*|select\w*|"
    r"mark\w*|show\w*|list\w*|print\w*|when|while|because|so|and|but|which|that)\b|[;:()|?!]",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class SeedTable:
    """A table of one quantity by arm and seed."""

    kind: str | None
    """None where nobody says what it is."""
    arms: Mapping[str, Mapping[str, Number]]
    """By name and by seed."""

    def named_in(self, text: str) -> list[str]:
        """Arms that a text names, in the table's order."""
        return [name for name in self.arms if any(_is_said(label, text) for label in {name, _bare(name)} if label)]


def _bare(name: str) -> str:
    return re.sub(r"\([^)]*\)", "", name).strip()


def _is_said(label: str, text: str) -> bool:
    flags = re.IGNORECASE if len(label) > 2 else 0
    return re.search(rf"(?<![\w.+-]){re.escape(label)}(?![\w+-]|\.\d)", text, flags) is not None


def seed_tables(document: Document) -> Iterator[SeedTable]:
    """Rows are arms and columns seeds, the other way round, or a row is an arm and a seed."""
    for table in document.tables:
        kinds, caption = [quantity(head) for head in table.header], document.captioned(table)
        in_columns = [at for at, head in enumerate(table.header) if SEED_COLUMN.fullmatch(head)]
        seed = next((at for at, kind in enumerate(kinds) if kind == "seed"), None)
        if len(in_columns) >= 2:
            rows = [(row[0], table.header[at], row[at]) for row in table.rows for at in in_columns]
            yield from _by_seed(caption, [one for one in rows if not is_statistic(one[0])])
        elif seed is not None:
            rows = [row for row in table.rows if cell(row[seed], None)]
            others = [at for at, kind in enumerate(kinds) if kind is None]
            of_numbers = [at for at in others if rows and all(cell(row[at], None) for row in rows)]
            names = [at for at in others if at not in of_numbers]
            for at in (at for at, kind in enumerate(kinds) if is_measured(kind)) if names else ():
                told = [(" ".join(row[name] for name in names), row[seed], row[at]) for row in rows]
                yield from _by_seed(kinds[at], told)
            if not names and not any(map(is_measured, kinds)):
                arms = [(re.sub(QUANTITY, "", table.header[at], flags=re.IGNORECASE), at) for at in of_numbers]
                told = [(arm.strip(" _-:()"), row[seed], row[at]) for arm, at in arms for row in rows]
                yield from _by_seed(caption, told)


def _by_seed(kind: str | None, cells: Sequence[tuple[str, str, str]]) -> Iterator[SeedTable]:
    """Nothing where an arm has two numbers on a seed, or there are fewer than two arms."""
    arms: dict[str, dict[str, Number]] = {}
    for arm, seed, text in cells:
        value = cell(text, kind)
        if value is not None and seed in arms.setdefault(arm, {}):
            return
        if value is not None:
            arms[arm][seed] = value
    if len(arms) >= 2 and all(arms):
        yield SeedTable(kind, arms)


def audit_wins(document: Document) -> list[Audit]:
    """ "Lower on every seed", "wins on 4 of 5 seeds", against tables by seed: accused where no reading of it holds.

    An arm that is not named may be any of the table, and equal prints may hide either order.
    """
    tables = [*seed_tables(document)] if re.search(r"seeds?\b", document.said, re.IGNORECASE) else []
    for line in document.claims if tables else ():
        for sentence in line.sentences:
            said = None if _NO_CLAIM.search(sentence) else _claimed(sentence, tables)
            if said is not None:
                remedy = "say on how many seeds it is, or print the numbers that it is true of"
                return [block("arithmetic", f"{document.place(line.number)}: {said}", remedy)]
    return []


def _claimed(sentence: str, tables: Sequence[SeedTable]) -> str | None:
    """What contradicts a claim of a sentence; None without a claim, and where it may be true."""
    relations = list(_RELATION.finditer(sentence))
    kind = re.search(QUANTITY, sentence, re.IGNORECASE)
    about = quantity(kind.group()) if kind else None
    for found in (*_FIRST.finditer(sentence), *_THEN.finditer(sentence)):
        behind = [one for one in relations if one.start() >= found.end()] if found.re is _FIRST else []
        ahead = [one for one in relations if one.end() <= found.start()] if found.re is _THEN else []
        if not (behind or ahead):
            continue
        relation = behind[0] if behind else ahead[-1]
        begin, end = (found.end(), relation.start()) if behind else (relation.end(), found.start())
        before = sentence[begin if behind else 0 : relation.start()]
        after = sentence[relation.end() : len(sentence) if behind else end]
        if end - begin > _NEAR or _ANOTHER_VERB.search(sentence[begin:end]) or before.lower().endswith("the "):
            continue
        named = [table for table in tables if table.named_in(before)] or tables
        asked = [
            table for table in named if about in (None, table.kind) or (table.kind is None and about[:4] == "val_")
        ]
        than = re.match(r" ?than\b(.*)", sentence[found.end() :]) if not behind else None
        if than and not any(table.named_in(than[1]) for table in asked):
            continue  # than another run, or than before
        after += than[1] if than else ""
        said = [_contradicted(table, relation, found, before, after) for table in asked]
        if said and all(said):
            return said[0]
    return None


def _contradicted(
    table: SeedTable, relation: re.Match[str], found: re.Match[str], before: str, after: str
) -> str | None:
    """The reading that comes nearest, and the seed against it; None where a reading may be true."""
    first, second = table.named_in(before), table.named_in(after)
    unknown = re.sub("|".join(map(re.escape, sorted(table.arms, key=len, reverse=True))), "", after)
    if re.search(NUMBER, re.sub(rf"\b(?:by|of) (?:at least |about |~)?{NUMBER}", "", unknown)):
        return None  # below a number, not below an arm
    sense = str(relation.lastgroup)
    if sense in ("better", "worse"):
        is_higher_better = [True, False] if table.kind is None else [table.kind.endswith("accuracy")]
        signs = [1 if higher == (sense == "better") else -1 for higher in is_higher_better]
    else:
        signs = [1 if sense == "more" else -1]
    nearest: tuple[int, str] | None = None
    for a in first or table.arms:
        for b in second or table.arms:
            shared = [seed for seed in table.arms[a] if seed in table.arms[b]] if a != b else []
            for sign in signs if len(shared) >= 2 else ():
                gaps = {seed: _gap(table.arms[a][seed], table.arms[b][seed], sign) for seed in shared}
                wins, losses = sum(gap > 0 for gap in gaps.values()), sum(gap < 0 for gap in gaps.values())
                if _may_hold(found, wins, losses, len(shared)):
                    return None
                if nearest is not None and wins <= nearest[0]:
                    continue
                claimed = f"{relation.group()} ... {found.group().strip(' ,;:(')}"
                told = f"{a} is so against {b} on {wins} of {len(shared)}"
                if not found["some"]:
                    seed = next(seed for seed in shared if gaps[seed] < 0)
                    where = seed if seed[0].isalpha() else f"seed {seed}"
                    told = f"{where} has {table.arms[a][seed].text} for {a} and {table.arms[b][seed].text} for {b}"
                nearest = wins, f'"{claimed}": {told}'
    return nearest and nearest[1]


def _gap(a: Number, b: Number, sign: int) -> int:
    """1 where a is beyond b in that direction, -1 the other way round, 0 where rounding may hide either."""
    return sign * ((a.low > b.high) - (a.high < b.low))


def _may_hold(found: re.Match[str], wins: int, losses: int, n: int) -> bool:
    among = found["among"] or found["all"]
    if among and _counted(among) != n:
        return True  # of other seeds than the table's
    return wins <= _counted(found["some"]) <= n - losses if found["some"] else losses == 0
