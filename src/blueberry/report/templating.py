"""Fills the templates. HTML escapes everything that is not marked safe; Markdown escapes what it would act on."""

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from blueberry.report.figures import Drawn, PageFigures
from blueberry.report.page import Page
from blueberry.report.theme import DARK, LIGHT, css_variables
from blueberry.report.vega import drawable, vega_script

_MINUS = re.compile(r"(?<![\w.)\]-])-(?=[\d∞])")


def html(page: Page, figures: PageFigures, pictures: Sequence[str]) -> str:
    """The page, with style, scripts and data inside it."""
    shown = (figures.main, *figures.of_kind, *figures.curves, figures.each_arm)
    drawn = [figure for figure in shown if figure is not None]
    return rendered(
        "index.html",
        page=page,
        figures=figures,
        specs={figure.name: figure.spec for figure in drawn},
        pictures=pictures,
        vega=Markup(vega_script()) if drawn else None,
    )


def markdown(page: Page, pictures: Sequence[Drawn]) -> str:
    """The same in GitHub's Markdown, each picture once; those of single arms are left to their folder."""
    shown = list(
        {picture.title: picture for picture in reversed(pictures) if "/individual/" not in picture.name}.values()
    )
    shown.reverse()
    return rendered("report.md", page=page, pictures=shown)


def rendered(template: str, **held: Any) -> str:
    """A template filled, with what HTML cannot hold replaced; of Markdown no two empty lines in a row."""
    html = template.endswith(".html")
    held |= {"light": Markup(css_variables(LIGHT)), "dark": Markup(css_variables(DARK))} if html else {}
    text = drawable(_environment(html=html).get_template(template).render(**held))
    return text if html else re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


@cache
def _environment(*, html: bool) -> Environment:
    """It keeps its templates compiled."""
    environment = Environment(
        loader=PackageLoader("blueberry.report"),
        autoescape=html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_typeset if html else _escape_markdown,
    )
    environment.filters["code"] = _code
    return environment


def _typeset(value: Any) -> Any:
    """A true minus before numbers; what is already markup is left alone."""
    return _MINUS.sub("\N{MINUS SIGN}", value) if isinstance(value, str) and not isinstance(value, Markup) else value


class _Plain(str):
    """Markdown that is meant as it stands."""


def _escape_markdown(value: Any) -> Any:
    """Text that Markdown, and the HTML inside it, show as it is: on one line, with nothing to act on."""
    if not isinstance(value, str) or isinstance(value, _Plain):
        return value
    text = re.sub(r"\s+", " ", value)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*|~$])", r"\\\1", text)
    text = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)  # inside a word it is no emphasis
    text = re.sub(r"\](?=[(\[:])", r"\\]", text)
    return re.sub(r"^([#+-]|\d+[.)])(?=\s)", r"\\\1", text)


def _code(value: str) -> str:
    """A code span, also in a table."""
    text = re.sub(r"\s+", " ", str(value)).replace("`", "'").replace("|", "\\|")
    return _Plain(f"`{text}`")
