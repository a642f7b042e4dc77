"""A loop's page, and the block that a pull request takes: one change, or the whole loop looked back at."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt
from markupsafe import Markup

from blueberry.judge.look_back import Change, LookBack, sentences
from blueberry.judge.loop import Loop, Ruling, Side, basis, places_of, said
from blueberry.judge.words import MISSING, interval, number, unit
from blueberry.report import place, to_json
from blueberry.report.charts import PAGE, Drawing, Palette, chart, layered, specification, tips
from blueberry.report.page import rendered

WIDTH, HEIGHT = 1000, 300
"""Pixels, without the axes."""


@dataclass(frozen=True)
class ChangeRow:
    """One change as table cells."""

    arm: str
    described: str
    kept: str
    baseline: str
    difference: str
    interval: str
    runs: str
    null: str
    """The chance that it is no improvement."""
    now: str
    """What the loop's rule says of it with all runs of the table."""


@dataclass(frozen=True)
class LoopPage:
    """Everything a reader is told."""

    title: str
    metric: str
    said: tuple[str, ...]
    """What was found, in sentences; the first is the shortest account of it."""
    sides: tuple[tuple[str, ...], ...]
    """Of one change baseline, candidate and difference: name, runs, mean, sd and interval in cells."""
    changes: tuple[ChangeRow, ...]
    how: str


def ruling_page(ruling: Ruling) -> LoopPage:
    """One change."""
    places = places_of(ruling.loop, ruling.look.gap.sd, ruling.look.gap.difference)
    gap = ruling.look.gap
    ends = interval(ruling.interval, places, sign=True)
    difference = ("difference", "", number(ruling.difference, places, sign=True), number(gap.sd, places), ends)
    sides = (_side(ruling.baseline, places), _side(ruling.candidate, places), difference)
    return LoopPage(ruling.candidate.arm, ruling.loop.metric, (said(ruling),), sides, (), _how(ruling))


def look_back_page(back: LookBack) -> LoopPage:
    """The whole loop."""
    loop = back.loop
    places = places_of(loop, back.noise and back.noise.sd, back.claimed)
    rows = tuple(_change(one, places) for one in back.changes)
    how = (
        "Each change is judged against what was kept when it was tried, by all runs of the table in their order. The "
        f"chance that such a loop ever keeps a change that is no improvement is at most {back.alpha:g}, at every look."
    )
    return LoopPage(loop.name, loop.metric, tuple(sentences(back)), (), rows, how)


def _side(side: Side, places: int) -> tuple[str, ...]:
    ends = interval(side.interval, places)
    return side.arm, str(side.n), number(side.mean, places), number(side.sd, places), ends


def _how(ruling: Ruling) -> str:
    return (
        f"{basis(ruling)}. Intervals of means: 95%, each by its own runs. That of the difference: each end is wrong "
        f"with probability {ruling.look.error:.2g} at most, at every look, as change {ruling.position} of a loop that "
        f"ever keeps a change that is no improvement with probability {ruling.alpha:g} at most."
    )


def _change(one: Change, places: int) -> ChangeRow:
    ruling, gap = one.ruling, one.ruling.look.gap
    asked = ((ruling.look.more_baseline, one.baseline), (ruling.look.more_candidate, one.arm))
    now = {"keep": "stands" if one.kept else "keep", "discard": "discard"}.get(ruling.look.decision)
    again = "run again: " + ", ".join(f"{num} of {arm}" for num, arm in asked if num)
    return ChangeRow(
        arm=one.arm,
        described=one.described,
        kept="kept" if one.kept else "discarded",
        baseline=one.baseline,
        difference=number(ruling.difference, places, sign=True),
        interval=interval(ruling.interval, places, sign=True),
        runs=f"{gap.num_candidate} against {gap.num_baseline}",
        null=MISSING if one.chance_of_null is None else f"{one.chance_of_null:.0%}",
        now=now or again,
    )


def markdown_of(judged: Ruling | LookBack) -> str:
    """A block to paste into a pull request."""
    return rendered("loop.md", page=_page(judged))


def write_loop(judged: Ruling | LookBack, folder: Path) -> Path:
    """Write `index.html`, `judge.md` and `judge.json`; returns the page. Raises: ReportError if that cannot be."""
    import vl_convert

    page = _page(judged)
    spec = specification(_drawn(judged.loop, judged if isinstance(judged, LookBack) else None, PAGE), PAGE)
    svg = vl_convert.vegalite_to_svg(spec, allowed_base_urls=[])
    files = {
        "judge.json": to_json(judged.to_dict()),
        "judge.md": rendered("loop.md", page=page),
        "index.html": rendered("loop.html", page=page, picture=Markup(svg)),
    }
    place(folder, ((name, text.encode()) for name, text in files.items()))
    return folder / "index.html"


def _page(judged: Ruling | LookBack) -> LoopPage:
    return look_back_page(judged) if isinstance(judged, LookBack) else ruling_page(judged)


def _drawn(loop: Loop, back: LookBack | None, palette: Palette) -> Drawing:
    """Every run in its order, and the line of what was kept. Runs far off lie on the edge."""
    kept = {one.arm for one in back.keeps} if back else {arm for arm, is_kept in loop.kept.items() if is_kept}
    kept.add(loop.arms[0])
    rows: list[dict[str, Any]] = []
    line: list[dict[str, Any]] = []
    best = None
    for order, run in enumerate(loop.runs, 1):
        value = loop.sign * run.value
        what = "kept" if run.arm in kept else "discarded"
        told = loop.described.get(run.arm, "")
        rows.append({"run": order, "value": value, "what": what, "arm": run.arm, "change": told})
        best = value if run.arm in kept else best
        line.append({"run": order, "value": best})
    values = sorted(row["value"] * loop.sign for row in rows)
    most = max(
        values[round(0.8 * (len(values) - 1))], max(row["value"] * loop.sign for row in rows if row["what"] == "kept")
    )
    ends = sorted((loop.sign * values[0], loop.sign * (most + 0.05 * (most - values[0]))))
    scale = alt.Scale(domain=ends, clamp=True, nice=True, zero=False)
    x = alt.X(
        "run:Q", title="run, in order", axis=alt.Axis(tickMinStep=1), scale=alt.Scale(domain=[1, len(rows)], nice=False)
    )
    y = alt.Y("value:Q", title=f"{loop.metric}{unit(loop.metric) and f' ({unit(loop.metric).strip()})'}", scale=scale)
    colour = alt.Color(
        "what:N",
        scale=alt.Scale(domain=["kept", "discarded"], range=[palette.accent, palette.other]),
        legend=alt.Legend(title=None, orient="top"),
    )
    points = chart(rows).mark_point(filled=True, size=60, opacity=1)
    layers = [
        chart(line).mark_line(interpolate="step-after", color=palette.accent, strokeOpacity=0.45).encode(x=x, y=y),
        points.encode(x=x, y=y, color=colour, tooltip=tips("arm:N", "value:Q", "change:N")),
    ]
    return layered(layers, width=WIDTH, height=HEIGHT)
