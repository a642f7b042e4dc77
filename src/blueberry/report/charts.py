"""What all figures are made with: colours and type, the axis along which arms are drawn, and Vega-Lite.

The page's figures are drawn once, with `var(--name)` for each colour, and follow the reader's colour scheme by CSS
alone. Pictures are drawn with the light palette. Blue, orange and grey, apart in lightness too, so that they stay apart
for every kind of colour vision and on grey paper; no meaning rests on colour alone.

Names and texts of users are data and titles here, never fields or expressions: fields have fixed names, and what Vega
would make of a title beyond showing it is switched off in `specification`, which every figure goes through.
"""

import contextlib
import json
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import altair as alt

from blueberry.files import write_whole
from blueberry.judge.judgement import Judgement
from blueberry.judge.words import is_rate, setting_name

NUM_RAMP_STEPS = 41
"""Steps of the sequential scale: an arm's colour is the nearest."""

PICTURE_FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
PAGE_FONT = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica Neue, Arial, sans-serif"


@dataclass(frozen=True)
class Palette:
    """Colours by what they say. Each is a CSS colour."""

    ink: str
    muted: str
    grid: str
    surface: str
    accent: str
    """The best arm, those not told apart from it, and the line through the means."""
    other: str
    """Arms that are worse."""
    fresh: str
    """What fresh seeds say: confirming runs."""
    failed: str
    """Runs that diverged."""
    ramp: tuple[str, ...]
    """Low to high, NUM_RAMP_STEPS colours."""
    categories: tuple[str, ...]
    """Seeds, or the second varied setting."""

    def along(self, fraction: float) -> str:
        """The colour at a fraction in 0..1 of the sequential scale."""
        return self.ramp[round(min(max(fraction, 0.0), 1.0) * (len(self.ramp) - 1))]

    def category(self, index: int) -> str:
        return self.categories[index % len(self.categories)]


def _ramp(stops: Sequence[str]) -> tuple[str, ...]:
    """NUM_RAMP_STEPS colours on straight lines through the stops (#rrggbb)."""
    channels = [[int(stop[i : i + 2], 16) for i in (1, 3, 5)] for stop in stops]
    colours = []
    for step in range(NUM_RAMP_STEPS):
        place = step / (NUM_RAMP_STEPS - 1) * (len(stops) - 1)
        left = min(int(place), len(stops) - 2)
        part = place - left
        mixed = [round(a + (b - a) * part) for a, b in zip(channels[left], channels[left + 1], strict=True)]
        colours.append("#{:02x}{:02x}{:02x}".format(*mixed))
    return tuple(colours)


LIGHT = Palette(
    ink="#1b1e2b",
    muted="#5a6072",
    grid="#e4e6ee",
    surface="#ffffff",
    accent="#3a4bb5",
    other="#868c9d",
    fresh="#c9570a",
    failed="#1b1e2b",
    ramp=_ramp(["#241a8a", "#6a22b4", "#b0328f", "#dc5a5e", "#e8961c"]),
    categories=("#3a4bb5", "#c9570a", "#0b7f86", "#a3408f", "#6e6a1e", "#4f5563", "#0d6fb8", "#8a4b2b"),
)

DARK = Palette(
    ink="#e9ebf4",
    muted="#a3a9bd",
    grid="#2d3142",
    surface="#171a26",
    accent="#93a2ff",
    other="#7f8699",
    fresh="#ff9d4d",
    failed="#e9ebf4",
    ramp=_ramp(["#8b80ff", "#bb6cf0", "#f072b6", "#ff9a7c", "#ffd568"]),
    categories=("#93a2ff", "#ff9d4d", "#4fd0d3", "#e58fd6", "#cfc95a", "#b6bccb", "#6cb9ff", "#d99a78"),
)


def _variable(name: str) -> str:
    return f"var(--{name})"


PAGE = Palette(
    **{f.name: _variable(f.name) for f in fields(Palette) if f.name not in ("ramp", "categories")},
    ramp=tuple(_variable(f"ramp-{step}") for step in range(NUM_RAMP_STEPS)),
    categories=tuple(_variable(f"category-{index}") for index in range(len(LIGHT.categories))),
)


def css_variables(palette: Palette) -> str:
    """Declarations that give the variables of PAGE this palette's colours."""
    plain = {f.name: getattr(palette, f.name) for f in fields(Palette) if f.name not in ("ramp", "categories")}
    numbered = {
        **{f"ramp-{step}": colour for step, colour in enumerate(palette.ramp)},
        **{f"category-{index}": colour for index, colour in enumerate(palette.categories)},
    }
    return " ".join(f"--{name}: {colour};" for name, colour in {**plain, **numbered}.items())


def config(palette: Palette, font: str = PICTURE_FONT) -> dict[str, Any]:
    """Vega-Lite's configuration: type, axes and legends in this palette."""
    return {
        "background": palette.surface if palette is not PAGE else "transparent",
        "font": font,
        "padding": 12 if palette is not PAGE else 4,
        "view": {"stroke": None},
        "title": {
            "anchor": "start",
            "frame": "group",
            "fontSize": 16,
            "fontWeight": 600,
            "color": palette.ink,
            "subtitleColor": palette.muted,
            "subtitleFontSize": 12,
            "subtitlePadding": 6,
            "offset": 14,
        },
        "axis": {
            "labelColor": palette.muted,
            "titleColor": palette.muted,
            "titleFontWeight": "normal",
            "labelFontSize": 11,
            "titleFontSize": 12,
            "titlePadding": 8,
            "gridColor": palette.grid,
            "domainColor": palette.muted,
            "tickColor": palette.muted,
            "tickSize": 4,
            "labelPadding": 4,
        },
        "axisX": {"grid": False},
        "axisY": {"domain": False, "ticks": False},
        "legend": {
            "labelColor": palette.ink,
            "titleColor": palette.muted,
            "titleFontWeight": "normal",
            "labelFontSize": 11,
            "titleFontSize": 11,
            "labelLimit": 260,
        },
        "text": {"color": palette.ink, "fontSize": 11},
    }


# --- The axis along which arms are drawn, and how much of y is shown ---


@dataclass(frozen=True)
class Axis:
    """The first varied setting, when it is a number in every arm."""

    setting: str
    values: tuple[float, ...]
    """Distinct, ascending, two or more."""
    log: bool

    @property
    def label(self) -> str:
        name = setting_name(self.setting)
        return f"{name} ({self.setting})" if "." in self.setting else name

    @property
    def is_learning_rate(self) -> bool:
        return is_rate(self.setting)

    @property
    def is_even(self) -> bool:
        """Whether the values stand at about equal distances as drawn."""
        return all(
            abs(self.fraction(value) - index / (len(self.values) - 1)) < 0.3 / len(self.values)
            for index, value in enumerate(self.values)
        )

    def fraction(self, value: float) -> float:
        """Where a value lies between the ends, 0 to 1, along the axis as drawn."""
        low, high = self._place(self.values[0]), self._place(self.values[-1])
        if not math.isfinite(high - low):
            return self.values.index(value) / (len(self.values) - 1)
        return (self._place(value) - low) / (high - low)

    def between(self, a: float, b: float, part: float) -> float:
        """The value a part of the way from a to b, along the axis as drawn."""
        place = self._place(a) + part * (self._place(b) - self._place(a))
        return self._value(place)

    def beyond(self, value: float, steps: float) -> float:
        """A value moved by so many mean steps of the grid; negative moves down."""
        step = (self._place(self.values[-1]) - self._place(self.values[0])) / (len(self.values) - 1)
        place = self._place(value) + steps * step
        return self._value(place)

    def neighbours(self, value: float) -> tuple[float | None, float | None]:
        """The tested values next below and next above."""
        below = [v for v in self.values if v < value]
        above = [v for v in self.values if v > value]
        return (below[-1] if below else None, above[0] if above else None)

    def _place(self, value: float) -> float:
        return math.log(value) if self.log else value

    def _value(self, place: float) -> float:
        """Back from a place; at most the largest number, at least (of a logarithm) the least that is exact."""
        if not self.log:
            return min(max(place, -sys.float_info.max), sys.float_info.max)
        return math.exp(min(max(place, math.log(sys.float_info.min)), math.log(sys.float_info.max)))


def find_axis(judgement: Judgement) -> Axis | None:
    """The axis of the main figure; None when the arms have only names."""
    axis = judgement.axis
    return None if axis is None else Axis(setting=axis.setting, values=axis.values, log=axis.is_log)


def rate_axis(axis: Axis, x_range: tuple[float, float]) -> alt.X:
    """The x of every figure along the axis: the tested values are the ticks."""
    return alt.X(
        "x:Q",
        title=axis.label,
        scale=alt.Scale(type="log" if axis.log else "linear", domain=list(x_range), nice=False, zero=False),
        axis=alt.Axis(
            values=list(axis.values),
            format=".4~g",
            labelOverlap="parity" if axis.is_even else "greedy",
            labelSeparation=6,
        ),
    )


MAX_HEIGHT_IN_VALLEYS = 4.0
"""A picture shows at most this many times the height of what matters in it (the better half of the arms),"""
WORTH_CUTTING = 1.5
"""unless everything would fit into one this many times as high."""


def picture_range(low: float, high: float, valley_height: float) -> tuple[float, float]:
    """Bottom and top, with a margin, for data between low and high of which the lowest `valley_height` matters."""
    top = low + MAX_HEIGHT_IN_VALLEYS * valley_height
    if high <= low + WORTH_CUTTING * (top - low):
        top = high
    margin = 0.07 * (top - low) or 0.05 * abs(low) or 1.0
    return (low - margin, top + margin)


# --- Vega-Lite ---

Width = int | Literal["container"]
"""Pixels, or as wide as the page lets it be."""
SCALE = 2
"""Pixels of a picture for one of the drawing."""


Drawing = dict[str, Any]
"""A view of Vega-Lite, with the rows that it and the views in it show under "datasets". Altair makes the single charts;
what is made of them is put together here: altair copies every chart in whole whenever one is put into another."""


MAIN = "main-figure"
"""The name of a report's first figure."""


@dataclass(frozen=True)
class Figure:
    """A figure before it is drawn, which it is twice: as a picture, and on the page."""

    name: str
    """Its id in the page."""
    path: str
    """Of its picture, in the report's folder."""
    title: str
    caption: str
    draw: Callable[..., Drawing]
    """From a palette and `width`, by default that of its picture."""


_UNDRAWABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0, and so SVG, cannot hold: control characters, halves of surrogate pairs.
Source: https://www.w3.org/TR/xml/#charsets"""
_INHERITED = frozenset(
    (
        *("constructor", "hasOwnProperty", "isPrototypeOf", "propertyIsEnumerable", "toLocaleString", "toString"),
        *("valueOf", "__defineGetter__", "__defineSetter__", "__lookupGetter__", "__lookupSetter__", "__proto__"),
    )
)
"""Names that every JavaScript object has: Vega looks titles up in one, and finds these."""


def chart(rows: list[dict[str, Any]]) -> alt.Chart:
    """A chart of plain rows; nothing is fetched. They travel as JSON text, which altair does not copy row by row."""
    return alt.Chart(alt.InlineData(values=json.dumps(rows), format=alt.JsonDataFormat(type="json")))


def layered(layers: Sequence[alt.Chart], *, width: Width, height: int, **more: Any) -> Drawing:
    """Charts one upon another, first below. Parameters are the whole's, and so are rows that all of them show."""
    datasets: dict[str, Any] = {}
    within = {"datasets": datasets, "top_level": False}  # altair adds the rows of each
    views = [layer.to_dict(validate=False, context=within) for layer in layers]  # the tests hold each to the schema
    whole: Drawing = {"layer": views, "width": width, "height": height, "datasets": datasets, **more}
    if params := [param for view in views for param in view.pop("params", ())]:
        whole["params"] = params
    if all(view["data"] == views[0]["data"] for view in views):
        whole["data"] = views[0]["data"]
        whole["layer"] = [{key: held for key, held in view.items() if key != "data"} for view in views]
    return whole


def headed(drawn: Drawing, title: str, *, offset: int = 8) -> Drawing:
    """A drawing under a title of its own, so many pixels above it."""
    return {**drawn, "title": {"text": title, "fontSize": 13, "offset": offset}}


def beside(drawings: Sequence[Drawing], *, spacing: int) -> Drawing:
    """Drawings in a row."""
    return _together("hconcat", drawings, spacing)


def stacked(drawings: Sequence[Drawing], *, spacing: int) -> Drawing:
    """Drawings in a column."""
    return _together("vconcat", drawings, spacing)


def _together(how: str, drawings: Sequence[Drawing], spacing: int) -> Drawing:
    datasets = {name: rows for drawing in drawings for name, rows in drawing["datasets"].items()}
    views = [{key: held for key, held in drawing.items() if key != "datasets"} for drawing in drawings]
    return {how: views, "spacing": spacing, "datasets": datasets}


GIVEN = alt.Color("colour:N", scale=None, legend=None)
"""Each row says its colour itself."""


def between(low: float, high: float) -> alt.Scale:
    """A scale with these very ends."""
    return alt.Scale(domain=[low, high], nice=False, zero=False)


def band(low: float, high: float, palette: Palette, along: Literal["x", "y"] = "x") -> alt.Chart:
    """A shaded rectangle between two values: its marks, of rows with the fields x and x2, or y and y2."""
    rows = [{along: low, f"{along}2": high}]
    return chart(rows).mark_rect(color=palette.accent, fillOpacity=0.11, opacity=1)


def zero(palette: Palette, along: Literal["x", "y"] = "x") -> alt.Chart:
    """A thin line at 0."""
    return chart([{along: 0.0}]).mark_rule(color=palette.muted, strokeWidth=1)


def lines_of(field: str, names: Sequence[str], palette: Palette) -> alt.Color:
    """A colour for each of these names, and a legend of lines above the picture."""
    legend = alt.Legend(orient="top", title=None, symbolType="stroke", symbolStrokeWidth=3, columns=5)
    colours = [palette.category(index) for index in range(len(names))]
    return alt.Color(f"{field}:N", scale=alt.Scale(domain=list(names), range=colours), legend=legend)


def tips(*fields: str) -> list[alt.Tooltip]:
    """Tooltips of fields by their own names. (A bare "arm:N" makes altair search its whole schema, 9 ms each.)"""
    return [alt.Tooltip(field) for field in fields]


def specification(drawn: Drawing, palette: Palette, **parts: Any) -> dict[str, Any]:
    """A drawing as a whole of Vega-Lite that can be shown whatever it holds, with further parts, e.g. a title."""
    rows = {name: json.loads(held) if isinstance(held, str) else held for name, held in drawn["datasets"].items()}
    looks = config(palette, PAGE_FONT if palette is PAGE else PICTURE_FONT)
    # Without "aria" false, Vega-Lite describes each mark by an expression made of titles that it does not escape.
    known = {"$schema": alt.SCHEMA_URL, "datasets": rows, "config": {**looks, "aria": False}}
    return _harmless({**drawn, **parts, **known})


def png(spec: dict[str, Any]) -> bytes:
    """A picture of a specification, at twice its size. Nothing is fetched."""
    import vl_convert

    return vl_convert.vegalite_to_png(spec, scale=SCALE, allowed_base_urls=[])


def drawable(text: str) -> str:
    """A text with each character that SVG or HTML cannot hold replaced by the sign for that."""
    return _UNDRAWABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def _harmless(value: Any, key: str = "") -> Any:
    """The same with drawable texts, finite numbers, and no title that Vega takes for a method."""
    if isinstance(value, str):
        is_title = key in ("title", "text", "subtitle") and value in _INHERITED
        return drawable(value) + " " * is_title
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _harmless(held, name) for name, held in value.items()}
    return [_harmless(held, key) for held in value] if isinstance(value, list) else value


@cache
def vega_script() -> str:
    """Vega, Vega-Lite and vega-embed as one script, safe inside a script element. About 0.9 million characters.

    Putting it together takes 2 s, so it is kept in the user's cache folder, by version, under its digest. Where it
    cannot be read or written, or is not what was written, it is put together again.
    """
    kept = _cache_folder() / f"vega-{version('vl-convert-python')}.js"
    with contextlib.suppress(OSError, ValueError):
        head, _, script = kept.read_bytes().decode().partition("\n")
        if head == _head(script):
            return script
    import vl_convert

    # In a script element only "</script" and "<!--" would end or change it.
    bundle = vl_convert.javascript_bundle()  # pyright: ignore[reportCallIssue]
    script = bundle.replace("</script", "<\\/script").replace("<!--", "<\\!--")
    with contextlib.suppress(OSError):
        write_whole(kept, f"{_head(script)}\n{script}".encode())
    return script


def _head(script: str) -> str:
    return f"// sha256 {sha256(script.encode()).hexdigest()}"


def _cache_folder() -> Path:
    given = os.environ.get("XDG_CACHE_HOME")
    home = os.path.expanduser("~")  # left as it is where nobody knows
    return Path(given or (os.devnull if home == "~" else f"{home}/.cache")) / "blueberry"


def dashes(names: Sequence[str], palette: Palette) -> alt.StrokeDash | None:
    """Of arms whose lines would share a colour: every second time round is dashed. None where colours are enough."""
    num = len(palette.categories)
    if len(names) <= num:
        return None
    patterns = [[5, 3] if index // num % 2 else [1, 0] for index in range(len(names))]
    legend = alt.Legend(orient="top", title=None, columns=5)
    return alt.StrokeDash("arm:N", scale=alt.Scale(domain=list(names), range=patterns), legend=legend)
