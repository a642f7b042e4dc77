"""The page: what was asked, which gates hold, and the tables. Everything on it is computed from the tallies."""

import math
from collections import Counter
from collections.abc import Sequence

from bench.truth.cells import Cell
from bench.truth.gates import LEVEL, Judged, judge_gates
from bench.truth.results import CellResult, Results, source_digest
from bench.truth.text import BESIDE, GATES, INTRODUCTION, QUOTED, READING, SECTIONS, Section


def page(cells: Sequence[Cell], results: Results) -> str:
    """Markdown. Cells that were not measured are left out, and their number is said."""
    judged = judge_gates(cells, results.cells)
    parts = [INTRODUCTION, _gates(judged), _failures(judged), READING]
    parts += [_section(section, cells, results.cells, judged) for section in SECTIONS]
    parts += [BESIDE, _provenance(cells, results.cells)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _gates(judged: Sequence[Judged]) -> str:
    rows = []
    for measure, told in GATES.items():
        here = [one for one in judged if one.gate.measure == measure]
        if not here:
            continue
        worst = min(here, key=lambda one: one.margin)
        counts = [one.tally.count for one in here]
        share = f"{_percent(worst.tally.mean)} ({worst.cell.name})"
        rows.append((told, _bound(worst), str(len(here)), _range(counts), _verdict(here), share))
    heading = ("gate", "bound", "cells", "studies a cell", "verdict", "worst cell")
    told = (
        f"A gate is called failed where a one-sided binomial test rejects it, at .05 over all {len(judged)} tests "
        f"together (p < {LEVEL / max(len(judged), 1):.1g} each), and in doubt where one test alone would (p < .05); "
        "some of the latter are chance, as where a bound is exact by theory and half of the cells lie above it. To "
        "tell a true 6% from 5% takes about 10,000 studies a cell; with 500, an error below 9% is likely to pass."
    )
    return f"## Which gates hold\n\n{table(heading, rows)}\n\n{told}"


def _verdict(here: Sequence[Judged]) -> str:
    failed, doubted = sum(not one.holds for one in here), sum(one.in_doubt for one in here)
    verdict = f"**fails in {failed}**" if failed else "holds"
    return f"{verdict}, {doubted} in doubt" if doubted else verdict


def _range(counts: Sequence[int]) -> str:
    return f"{min(counts):,}" if min(counts) == max(counts) else f"{min(counts):,} to {max(counts):,}"


def _bound(one: Judged) -> str:
    gate = one.gate
    if gate.low == 1:
        return "all"
    if gate.bound == "between":
        assert gate.high is not None
        return f"{gate.low:.0%} to {gate.high:.0%}"
    return f"{gate.bound} {gate.low:.0%}"


def _failures(judged: Sequence[Judged]) -> str:
    failed = [one for one in judged if not one.holds]
    doubted = [one for one in judged if one.in_doubt]
    parts = []
    if failed:
        parts.append("## What does not hold\n\n" + "\n".join(_failure(one) for one in failed))
    if doubted:
        parts.append("## What is in doubt\n\n" + "\n".join(_failure(one) for one in doubted))
    return "\n\n".join(parts)


def _failure(one: Judged) -> str:
    told = f"- {one.cell.name}: {GATES[one.gate.measure].lower()} {_percent(one.tally.mean)}"
    return f"{told} (of {one.tally.count:,}; {_bound(one)} asked; p = {one.p_value:.2g})"


def _section(section: Section, cells: Sequence[Cell], results: dict[str, CellResult], judged: Sequence[Judged]) -> str:
    made = table_of(section, cells, results, judged)
    return f"## {section.title}\n\n{section.told}\n\n{made}" if made else ""


def table_of(section: Section, cells: Sequence[Cell], results: dict[str, CellResult], judged: Sequence[Judged]) -> str:
    """A row for each cell that was measured; empty where none was."""
    failed = {(one.cell.name, one.gate.measure) for one in judged if not one.holds}
    rows = []
    for cell in (cell for cell in cells if cell.table == section.table and cell.name in results):
        result = results[cell.name]
        row = [cell.name.partition("/")[2], f"{result.replicates:,}"]
        for _, measure, form in section.columns:
            text = _number(result, measure, form)
            row.append(f"**{text}**" if (cell.name, measure) in failed else text)
        rows.append(tuple(row))
    heading = ("case", "R", *(name for name, _, _ in section.columns))
    return table(heading, rows) if rows else ""


def quoted(text: str, cells: Sequence[Cell], results: Results) -> str:
    """Another page, with the table of loops as this one has it."""
    section = next(one for one in SECTIONS if one.table == "loops")
    made = table_of(section, cells, results.cells, judge_gates(cells, results.cells))
    (head, rest), (begin, end) = text.split(QUOTED[0], 1), QUOTED
    return f"{head}{begin}\n{made}\n{end}{rest.split(end, 1)[1]}"


def _number(result: CellResult, measure: str, form: str) -> str:
    """Forms: "%" a share, "mnats" thousandths of a nat, "x" a factor from its logarithm, "1" and "2" a number with so
    many decimals."""
    tally = result.tallies.get(measure)
    mean = None if tally is None else tally.mean
    if mean is None:
        return "-"
    if form == "%":
        return _percent(mean)
    if form == "mnats":
        return f"{1000 * mean:.2f}"
    if form == "x":
        return f"{math.exp(mean):.2f}"
    return f"{mean:.{int(form)}f}"


def _percent(share: float | None) -> str:
    assert share is not None
    return f"{100 * share:.1f}%" if share >= 0.0095 or share == 0 else f"{100 * share:.2f}%"


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _provenance(cells: Sequence[Cell], results: dict[str, CellResult]) -> str:
    measured = [cell for cell in cells if cell.name in results]
    studies = sum(results[cell.name].replicates for cell in measured)
    digests = {study: source_digest(study) for study in {cell.study for cell in measured}}
    old = Counter(cell.table for cell in measured if results[cell.name].sources != digests[cell.study])
    lines = [
        "## Made by",
        "",
        "`make truth`, which is `python -m bench.truth --replicates 10000 --out docs/truth.md`: it measures what "
        "`bench/truth/results.json` lacks (seeds are fixed by the cell's name, so the table is reproducible), says its "
        "progress on standard error, and may be interrupted. `--only PREFIX` and `--again PREFIX` choose cells by "
        "name. After a change of `stats/` or `judge/` a cell is kept if its first 500 studies come out the same, and "
        "measured anew if not.",
        "",
        f"This page: {studies:,} simulated studies in {len(measured)} of {len(cells)} cells. R, the number of "
        "replicates of a cell, stands in every row.",
    ]
    if old:
        told = ", ".join(f"{count} of {name}" for name, count in old.items())
        lines += ["", f"{old.total()} cells were measured with earlier sources than today's ({told})."]
    return "\n".join(lines)
