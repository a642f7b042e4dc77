"""Tables of Markdown: which of a document's has the runs; its rows as they stand there, and as runs where a run stands
in each cell or column.

In a table whose columns are seeds or steps nothing but the text around it says what the cells measure
(`blueberry.tables.captions`). Where that names a loss they are read as it; else a person is asked.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import PurePath

from blueberry.errors import TableError
from blueberry.tables.captions import Said, says_what_is_measured, what_is_measured
from blueberry.tables.columns import find_column, folded, is_loss, kind_by_name, understood, word_set
from blueberry.tables.names import summary_in
from blueberry.tables.progress import ENDINGS
from blueberry.tables.rows import bare, is_finite, value_of

_HEADING = re.compile(r"\s{0,3}(#{1,6})\s+(.*?)\s*#*\s*$")
_FENCE = re.compile(r"\s{0,3}(`{3,}|~{3,})")
_RULE_CELL = re.compile(r":?-+:?")
_RULE_LINE = re.compile(r"\s*\|[\s|:-]*-[\s|:-]{0,2000}")
_ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")
_UNESCAPED_BAR = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True)
class MarkdownTable:
    """One table, its cells as they stand there: marks of emphasis, units and signs included."""

    heading: str | None
    """The nearest heading above it, without its hashes."""
    line: int
    """Of its header, counted from 1."""
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """As many cells a row as the header has: missing ones are empty, surplus ones left out, as renderers do."""
    caption: str = field(default="", compare=False)
    """The paragraph right above it, between it and the nearest heading or table."""
    headings: tuple[str, ...] = field(default=(), compare=False)
    """All that it stands under, the nearest first."""
    places: tuple[str, ...] = field(default=(), compare=False)
    """Where each row stands in its file, e.g. "line 5"; of a run in each cell also in which column, "line 5 seed 0"."""


def read_tables(text: str) -> list[MarkdownTable]:
    """Every pipe table outside fenced code, in the order of the document.

    A table is a header line, a line of dashes with as many cells, then lines with a bar up to a blank line.
    Source: GitHub Flavored Markdown 0.29, section 4.10.
    """
    lines = _without_code(text)
    found: list[MarkdownTable] = []
    headings: list[tuple[int, str]] = []
    paragraph: list[str] = []
    number = 0
    while number < len(lines):
        line = lines[number]
        if _FENCE.match(line):
            paragraph = []
        elif named := _HEADING.match(line):
            level, paragraph = len(named[1]), []
            headings = [(level, named[2]), *((above, name) for above, name in headings if above < level)]
        elif number + 1 < len(lines) and _begins_table(line, lines[number + 1]):
            end = number + 2
            while end < len(lines) and "|" in lines[end]:
                end += 1
            header = split_row(line)
            rows = tuple((*split_row(row), *[""] * len(header))[: len(header)] for row in lines[number + 2 : end])
            under = tuple(name for _, name in headings)
            caption = " ".join(paragraph)
            places = tuple(f"line {at}" for at in range(number + 3, end + 1))
            found.append(MarkdownTable(under[0] if under else None, number + 1, header, rows, caption, under, places))
            number, paragraph = end, []
            continue
        elif line.strip():
            paragraph = [*paragraph, line.strip()] if number and lines[number - 1].strip() else [line.strip()]
        number += 1
    return found


def split_row(line: str) -> tuple[str, ...]:
    """The cells of one line, stripped; `\\|` is a bar within a cell, and `\\_` an underscore."""
    inside = line.strip().removeprefix("|")
    if inside.endswith("|") and not inside.endswith("\\|"):
        inside = inside[:-1]
    return tuple(_ESCAPED.sub(r"\1", cell.strip()) for cell in _UNESCAPED_BAR.split(inside))


def broken_tables(text: str) -> list[str]:
    """What looks like a table and is none, as its header has more or fewer cells than the line of dashes below it: a
    line for each."""
    found: list[str] = []
    for number, (line, below) in enumerate(pairwise(_without_code(text)), 1):
        if "|" not in line or _FENCE.match(line) or not _RULE_LINE.fullmatch(below):
            continue
        num, rule = len(split_row(line)), len(split_row(below))
        if rule > 1 and num != rule:
            what = f"{num} cells over a rule of {rule}, so that it is no table"
            found.append(f"line {number}: {what}; each column has one of both; write \\| for a bar within a cell")
    return found


def _begins_table(line: str, below: str) -> bool:
    if "|" not in line or "-" not in below or ("|" not in below and ":" not in below):
        return False
    rule = split_row(below)
    return len(rule) == len(split_row(line)) and all(_RULE_CELL.fullmatch(cell) for cell in rule)


def _without_code(text: str) -> list[str]:
    """Its lines, but those of fenced code are empty; the fences themselves are not."""
    lines, fence = text.splitlines(), ""
    for number, line in enumerate(lines):
        mark = _FENCE.match(line)
        if mark is None:
            lines[number] = "" if fence else line
        elif not fence or mark[1].startswith(fence):
            fence = "" if fence else mark[1]
    return lines


# --- Which has the runs ---


@dataclass(frozen=True)
class _Reading:
    """A table with a run, or a step of one, in each row."""

    table: MarkdownTable
    how: str = ""
    """How its rows were made, for a person; empty where they stand so."""
    cells: Said | None = None
    """Where each cell is a run: what the text says that they measure."""
    is_asked_for: bool = False
    """The cells are what a person named."""
    left_out: tuple[str, ...] = ()
    """Columns that sum up the cells beside them."""

    @property
    def told(self) -> str:
        """How it was understood, and what was left out."""
        return f"{self.how}; left out: {', '.join(self.left_out)}" if self.left_out else self.how

    @property
    def doubt(self) -> int:
        """0 where a column or the text says what was measured as it was asked for, 1 where it is only taken so."""
        return 0 if self.cells is None or (self.cells.loss and not self.is_asked_for) else 1


def table_of_runs(
    text: str, place: str, wanted: Sequence[str], metric: str | None = None
) -> tuple[MarkdownTable, list[str]]:
    """The table of a document that has the runs, one in each row, and what a person should know of the choice.

    Of the tables that have what is `wanted`, `metric` among it where it is given, the first with a loss is read, or the
    first; one of means only where no other has the runs. `metric` is also what the cells of a table measure whose
    columns are seeds, steps or values of a setting.
    Raises: TableError if no table has all that is wanted, or nothing says what the cells of the chosen one measure.
    """
    found = [_read(table, wanted, metric, PurePath(place).stem) for table in read_tables(text)]
    notes = [f"{place} {said}" for said in broken_tables(text)]
    if not found:
        rule = "a Markdown table has a header and a line of dashes; add one"
        raise TableError(notes[0] if notes else f"{place}: no table in it; {rule}")
    fitting = [one for one in found if _has(one.table, wanted)]
    if not fitting:
        names = ", ".join(f'"{name}"' for name in wanted)
        nearest = [name for name in found[0].table.header if name] if len(found) == 1 else ()
        have = f"its columns are {', '.join(nearest)}" if nearest else f"none of its {len(found)} tables has them"
        broken = f"; {notes[0]}" if notes else ""
        raise TableError(f"{place}: no table with columns {names}; {have}; name columns that a table has{broken}")
    with_loss = [
        one for one in fitting if any(is_loss(n) and kind_by_name(n) == "result" for n in map(bare, one.table.header))
    ]
    of_runs = [one for one in with_loss if not _is_of_means(one.table)]
    unnamed = [one for one in fitting if one.cells is not None]
    fitting = of_runs or (unnamed if with_loss else []) or with_loss or fitting
    chosen = min(fitting, key=lambda one: one.doubt)
    table = chosen.table
    if len(fitting) > 1:
        under = f' under "{table.heading}"' if table.heading else ""
        which = "the first" if chosen is fitting[0] else "the one"
        notes.append(f"{place}: {len(fitting)} tables fit; {which}, at line {table.line}{under}, is read")
    elif len(with_loss) > 1:
        notes.append(f"{place}: the table at line {table.line} is read, which has runs; others have means of them")
    if not table.header[-1]:
        assert chosen.cells is not None
        raise TableError(f"{place} line {table.line}: {chosen.cells.question}")
    if chosen.how:
        notes.append(f"{place}: the table at line {table.line} has {chosen.told}")
    return table, notes


def with_seeds_down(table: MarkdownTable, place: str, metric: str | None) -> tuple[MarkdownTable, str] | None:
    """A table of another format with a column for each seed as one with a run in each row, and how it was understood.

    None where it has the metric as a column, or where nothing says what the cells are.
    """
    if metric is not None and _has(table, [metric]):
        return None
    found = _by_seed(table) or _unfolded(table, metric, PurePath(place).stem)
    if found is None or not found.table.header[-1]:
        return None
    return found.table, f"{place}: the table has {found.told}"


def _has(table: MarkdownTable, wanted: Sequence[str]) -> bool:
    names = [bare(name) for name in table.header if name]
    renamed = understood(names)
    columns = [renamed.get(name, name) for name in names]
    try:
        for name in wanted:
            find_column(name, columns, "", renamed)
    except TableError:
        return False
    return bool(table.rows)


def _is_of_means(table: MarkdownTable) -> bool:
    """Whether its rows sum up several runs each: a column of means, of spreads or of several seeds, or cells so."""
    for at, name in enumerate(map(bare, table.header)):
        words = re.findall(r"[^\W\d_]+", name.casefold())
        if set(words) & _OF_SEVERAL or "\u00b1" in name or words[-1:] == ["seeds"]:
            return True
        if is_loss(name) and any("\u00b1" in row[at] or "+/-" in row[at] for row in table.rows):
            return True
    return False


# --- A run in each cell or column ---


def _read(table: MarkdownTable, wanted: Sequence[str], metric: str | None, stem: str) -> _Reading:
    in_cells = _along_steps(table, metric, stem) or _by_seed(table) or _unfolded(table, metric, stem)
    return in_cells or _turned(table, wanted) or _Reading(table)


def _down(table: MarkdownTable, header: Sequence[str], made: Iterable[tuple[int, str, Sequence[str]]]) -> MarkdownTable:
    """With other rows: of which row each was made, what tells it from the others of that row, and its cells."""
    rows = [(f"{table.places[at]} {what}", tuple(cells)) for at, what, cells in made]
    return replace(
        table, header=tuple(header), rows=tuple(cells for _, cells in rows), places=tuple(place for place, _ in rows)
    )


def _unfolded(table: MarkdownTable, metric: str | None, stem: str) -> _Reading | None:
    """A table with a run in each cell, as one with a run in each row; None where it is no such.

    Its columns are values of one thing: numbers, or "seed 0", "s1", "lr = 0.01"; or any words, where its corner names
    what goes down and what goes across. Columns that sum these up (mean, "vs base", a result) are left out; where
    the others name their thing, further ones of names and settings are kept.
    """
    names = [bare(name) for name in table.header]
    parts, corner = _corner(names[0])
    down, *across = parts or [_TURNED]
    names, of_heads = _without_measure(names)
    corner = corner or of_heads
    summing = [at for at, name in enumerate(names) if at and is_derived(name)]
    heads = {
        at: match
        for at, name in enumerate(names)
        if at and at not in summing and (match := _VALUE.fullmatch(_SEED.sub("seed ", name)))
    }
    beside = [at for at in range(1, len(names)) if at not in heads and at not in summing]
    what = {match[1] and match[1].casefold() for match in heads.values()}
    if len(heads) > 1 and len(what) == 1 and (not beside or what != {None}):
        values = {at: match[2] for at, match in heads.items()}
        name = next(iter(heads.values()))[1] or (across[0] if across else "seed")
        summing = sorted([*summing, *(at for at in beside if _is_a_result(table, at, names[at]))])
        beside = [at for at in beside if at not in summing]
    elif (
        len(across) == 1
        and _NAMED_CORNER.search(names[0])
        and not understood(names[1:])
        and not _NO_SETTING & set(map(kind_by_name, names[1:]))
    ):
        values, name = {at: names[at] for at in range(1, len(names)) if at not in summing}, across[0]
        beside = []
    else:
        return None
    rows = _rows_of_runs(table)
    read = [value_of(bare(cells[at])) for _, cells in rows for at in values]
    if len(values) < 2 or any(isinstance(value, str) and value.casefold() not in ENDINGS for value in read):
        return None
    said = what_is_measured(corner, table.caption, table.headings, stem, read)
    asked = metric is not None and folded(metric) not in (folded(down), folded(name))
    of = metric if asked and metric else said.loss or ""
    made = (
        (row, f"{name} {value}", (cells[0], *(cells[at] for at in beside), value, cells[at]))
        for row, cells in rows
        for at, value in values.items()
        if bare(cells[at])
    )
    turned = _down(table, (down, *(names[at] for at in beside), name, of), made)
    how = f"a run in each cell, read as its {of}{'' if asked else said.where}"
    return _Reading(turned, how, said, asked, tuple(names[at] for at in summing if names[at]))


def _rows_of_runs(table: MarkdownTable) -> list[tuple[int, tuple[str, ...]]]:
    """Those that are no differences of others, with their numbers."""
    return [(at, cells) for at, cells in enumerate(table.rows) if not _DIFFERENCE_ROW.fullmatch(bare(cells[0]))]


def _by_seed(table: MarkdownTable) -> _Reading | None:
    """A table with several metrics of each of several seeds ("seed 0 loss", "seed 0 acc", "seed 1 loss"), as one with a
    run for each seed of a row; None where it is no such."""
    names = [bare(name) for name in table.header]
    heads = {at: match for at, name in enumerate(names) if (match := _SEED_WITHIN.fullmatch(name[:LONGEST_HEAD]))}
    columns = {(match["seed"], _measure_in(match)): at for at, match in heads.items()}
    seeds, measures = (list(dict.fromkeys(key[n] for key in columns)) for n in (0, 1))
    if len(seeds) < 2 or len(measures) < 2 or len(columns) < len(heads) or any(map(is_derived, measures)):
        return None
    if "" in measures or not any(map(says_what_is_measured, measures)):
        return None
    others = [at for at in range(len(names)) if at not in heads]
    summing = [at for at in others if at and (is_derived(names[at]) or _is_a_result(table, at, names[at]))]
    others = [at for at in others if at not in summing]
    made = [
        (row, f"seed {seed}", [*(cells[at] for at in others), seed, *values])
        for row, cells in _rows_of_runs(table)
        for seed in seeds
        if any(values := [cells[columns[seed, one]] if (seed, one) in columns else "" for one in measures])
    ]
    how = f"a run for each seed in a row, of which {' and '.join(measures)} were measured"
    turned = _down(table, [*(names[at] for at in others), "seed", *measures], made)
    return _Reading(turned, how, left_out=tuple(names[at] for at in summing if names[at]))


def _measure_in(match: re.Match[str]) -> str:
    """What a column of one seed measures, by what stands beside the seed in its name."""
    return " ".join(filter(None, (match["before"], match["after"].strip(" _-,:/\u2013\u2014"))))


def _without_measure(names: list[str]) -> tuple[list[str], str]:
    """Columns called "loss (seed 0)" or "seed 0 val_loss" as "seed 0", and what all of them so say was measured."""
    found = {
        at: match for at, name in enumerate(names) if at and (match := _SEED_WITHIN.fullmatch(name[:LONGEST_HEAD]))
    }
    said = set(map(_measure_in, found.values()))
    if len(found) < 2 or len(said) > 1 or not says_what_is_measured(min(said)):
        return names, ""
    return [f"seed {found[at]['seed']}" if at in found else name for at, name in enumerate(names)], said.pop()


def _along_steps(table: MarkdownTable, metric: str | None, stem: str) -> _Reading | None:
    """A table with a column for each of several steps ("step 3150", "3150 val", "val loss at 3150"), as one with a row
    for each; None where it is no such."""
    names = [bare(name) for name in table.header]
    found = {place: match for place, name in enumerate(names) if (match := _AT_STEP.fullmatch(name))}
    told = {(match["of"] or match["what"] or "").casefold().strip() for match in found.values()}
    if len(found) < 2 or len(told) > 1:
        return None
    parts, corner = _corner(names[0]) if 0 not in found else ([], "")
    names[0] = parts[0] if parts and corner else _TURNED if corner else names[0]
    summing = [at for at, name in enumerate(names) if at and at not in found and is_derived(name)]
    others = [at for at in range(len(names)) if at not in found and at not in summing]
    own, said = told.pop(), None
    if own:
        of, asked = "val_loss" if own in ("val", "loss") else own, False
    else:
        said = what_is_measured(
            corner, table.caption, table.headings, stem, [value_of(bare(row[at])) for row in table.rows for at in found]
        )
        asked = metric is not None
        of = metric or said.loss or ""
    header = (*(names[at] for at in others), _STEP, of)
    made = (
        (row, f"{_STEP} {step}", (*(cells[at] for at in others), step, cells[column]))
        for row, cells in enumerate(table.rows)
        for column, match in found.items()
        if bare(cells[column]) and (step := match["step"] or match["bare"] or match["at"])
    )
    where = said.where if said and not asked else ""
    how = f"a run in each row, measured at several steps, of which each cell is read as {of}{where}"
    turned = _down(table, header, made)
    return _Reading(turned, how, said, asked, tuple(names[at] for at in summing if names[at]))


def _turned(table: MarkdownTable, wanted: Sequence[str]) -> _Reading | None:
    """A table with a run in each column, as pull requests have them, as one with a run in each row; None where it is
    no such: what goes down its first column, which is called metric or nothing, are columns of runs, a loss among them.
    """
    names = [bare(cells[0]) for cells in table.rows]
    corner = bare(table.header[0]).casefold()
    if corner not in _TURNED_CORNERS or len(table.header) < 3 or len(set(names)) < len(names) or not all(names):
        return None
    known = understood(names)
    if not any(is_loss(known.get(name, name)) or name in wanted for name in names):
        return None
    runs = [bare(run) for run in table.header[1:]]
    rows = tuple((run, *(cells[number] for cells in table.rows)) for number, run in enumerate(runs, 1))
    places = tuple(f'line {table.line} "{run}"' for run in runs)
    turned = replace(table, header=(_TURNED, *names), rows=rows, places=places)
    return _Reading(turned, f"a run in each column, its {_TURNED}")


def _corner(text: str) -> tuple[list[str], str]:
    """Of the cell above the names of rows: what goes down and across, and what it says of the cells."""
    inside = "; ".join(one for one in _BRACKETED.findall(text) if says_what_is_measured(one))
    outside = _BRACKETED.sub(" ", text) if inside else text
    parts = [part.strip() for part in _CORNER.split(outside) if part.strip()]
    said = [part for part in parts if says_what_is_measured(part)]
    return [part for part in parts if part not in said], "; ".join(filter(None, [*said, inside]))


def is_derived(name: str) -> bool:
    """Whether a column was made from those beside it: a mean, a spread, a difference, the best of them."""
    if summary_in(name) is not None or "\u00b1" in name or "+/-" in name:
        return True
    words = set(re.findall(r"[^\W\d_]+", name.casefold()))
    return bool(words & _DERIVED) or name.strip().casefold() in ("p", "n", "%", "\u03c3")


def _is_a_result(table: MarkdownTable, at: int, name: str) -> bool:
    """Whether a column beside those of runs is no setting, by its name, or has numbers of which that says nothing."""
    kind = kind_by_name(name)
    return kind == "result" or (kind is None and any(is_finite(value_of(bare(row[at]))) for row in table.rows))


_NO_SETTING = {"result", "length", "seed", "meta"}
_STEP = "step"
_AT_STEP = re.compile(
    r"(?:(?:steps?|updates?|iter(?:ation)?s?)\s*=?\s*(?P<step>[\d,]+)|(?P<bare>[\d,]+)(?=\s+[vl])"
    r"|(?P<what>val(?:idation)?[ _]?loss|val|loss)?\s*(?:at|@|after)\s*(?:step\s*|k\s*=\s*)?(?P<at>[\d,]+))"
    r"(?:\s+(?P<of>val(?:idation)?[ _]?loss|val|loss))?",
    re.IGNORECASE,
)
_TURNED = "name"
_TURNED_CORNERS = ("", "metric", "metrics", "measure", "quantity", "statistic", "field", "setting")
_NAMED_CORNER = re.compile(r"\\|\s[/|]\s|[\u00d7\u2193\u2192]")
_SEED = re.compile(r"^s(?:eed)?[ _#:=-]*(?=\d+$)", re.IGNORECASE)
SEED_HEAD = re.compile(r"s(?:eed)?[ _#:=-]*\d+$|.{0,80}(?<![^\W_])seed[ _#:=-]*\d+(?![^\W_])", re.IGNORECASE)
"""What a column for one seed is called."""
LONGEST_HEAD = 80
"""Characters of a column's name in which a seed is looked for."""
_SEED_WITHIN = re.compile(
    r"(?P<before>.*?)[\s(\[,_/\u2013\u2014-]*(?<![^\W_])seed[ _#:=-]*(?P<seed>\d+)(?![^\W_])[)\]]?(?P<after>.*)",
    re.IGNORECASE,
)
_VALUE = re.compile(r"(?:([A-Za-z][\w ]*?)\s*[= ]\s*)?([+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)")
_CORNER = re.compile(r"[\\/|\u00d7\u2193\u2192]+")
_BRACKETED = re.compile(r"[(\[]([^()\[\]]*)[)\]]")
_OF_SEVERAL = word_set("mean avg average median std stdev stddev sd sem stderr")
_DERIVED = _OF_SEVERAL | word_set(
    """
    min max range var variance ci spread sum total best worst delta \u03b4 diff difference vs versus improvement gain
    gap change reduction speedup rank p
    """
)
_DIFFERENCE_ROW = re.compile(
    r"[\u0394\u2206].*|(?:delta|diff(?:erence)?|improvement|gain|gap)(?:\s*[(:].*)?", re.IGNORECASE
)
