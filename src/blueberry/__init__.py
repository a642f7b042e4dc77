"""Blueberry trains small language models and runs the studies that choose their settings.

    import blueberry
    recipe = blueberry.Recipe.load("moe-nano").with_(**{"optimizer.muon.learning_rate": 0.03})
    result = blueberry.train(recipe)
    judgement = blueberry.run(blueberry.Study.load("studies/demo-lr-sweep.toml"))

Each name is loaded when it is first asked for, so that importing the package costs nothing.
"""

import sys
from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "BlueberryError": "blueberry.errors",
    "Judgement": "blueberry.judge.judgement",
    "Recipe": "blueberry.recipe",
    "RunResult": "blueberry.records",
    "Study": "blueberry.study.spec",
    "analyse": "blueberry.analysis",
    "ledger": "blueberry.promotions",
    "promote": "blueberry.promotions",
    "run": "blueberry.api",
    "train": "blueberry.api",
}
__all__ = list(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])


def _shown(judgement: Any) -> str:
    return import_module("blueberry.report").notebook(judgement)


def _tell_notebooks() -> None:
    """In a notebook a Judgement shows its table and curve; nothing of it is loaded before."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None and shell.display_formatter is not None:
        html = shell.display_formatter.formatters["text/html"]
        html.for_type_by_name("blueberry.judge.judgement", "Judgement", _shown)


_tell_notebooks()
