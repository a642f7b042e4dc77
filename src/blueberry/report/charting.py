"""What every chart here is made with. Altair's shorter ways are slow: it checks and copies at every turn."""

import json
from collections.abc import Sequence
from typing import Any, Literal

import altair as alt

Width = int | Literal["container"]
"""Pixels, or as wide as the page lets it be."""


def chart(rows: list[dict[str, Any]]) -> alt.Chart:
    """A chart of plain rows; nothing is fetched. They travel as JSON text, which is not copied row by row."""
    return alt.Chart(alt.InlineData(values=json.dumps(rows), format=alt.JsonDataFormat(type="json")))


def layered(layers: Sequence[alt.Chart], *, width: Width, height: int, **more: Any) -> alt.LayerChart:
    """Charts one upon another, first below."""
    return alt.LayerChart(layer=list(layers), width=width, height=height, **more)


def tips(*fields: str) -> list[alt.Tooltip]:
    """Tooltips of fields by their own names. (A bare "arm:N" makes altair search its whole schema, 9 ms each.)"""
    return [alt.Tooltip(field) for field in fields]
