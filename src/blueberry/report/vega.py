"""Vega-Lite: what charts are made with, what a specification may hold, its PNG, and the script that draws it on a page.

Names and texts of users are data and titles here, never fields or expressions: fields have fixed names, and what Vega
would make of a title beyond showing it is switched off in `specification`, which every figure goes through.
"""

import contextlib
import json
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import altair as alt

from blueberry.files import write_whole
from blueberry.report.theme import PAGE, PAGE_FONT, PICTURE_FONT, Palette, config

Width = int | Literal["container"]
"""Pixels, or as wide as the page lets it be."""
SCALE = 2
"""Pixels of a picture for one of the drawing."""


Drawing = dict[str, Any]
"""A view of Vega-Lite, with the rows that it and the views in it show under "datasets". Altair makes the single charts;
what is made of them is put together here: altair copies every chart in whole whenever one is put into another."""


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
