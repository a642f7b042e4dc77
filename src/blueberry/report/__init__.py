"""A judged study as figures, a page, Markdown and JSON. Everything is computed before anything is drawn.

`write(judgement, runs, out_dir)` does it all. `compute` holds what the figures show; `lr_curve(judgement)` and
`draw_lr_curve(curve)` are the main one alone, for a notebook.
"""

from blueberry.report.lr_curve import LrCurve
from blueberry.report.runs import LabelledRun
from blueberry.report.writing import write

__all__ = ["LabelledRun", "LrCurve", "write"]
