"""Colours and type of every figure: a light palette, a dark one, and one of CSS variables for the page.

The page's figures are drawn once, with `var(--name)` for each colour, and follow the reader's colour scheme
by CSS alone. Pictures are drawn with the light palette. Blue, orange and grey, apart in lightness too, so that
they stay apart for every kind of colour vision and on grey paper; no meaning rests on colour alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

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
