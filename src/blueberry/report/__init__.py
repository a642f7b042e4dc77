"""A judged study as figures, a page, Markdown and JSON. Everything is computed before anything is drawn.

`write(judgement, runs, out_dir)` does it all: `runs` are those of the judgement, wherever they were trained.
"""

from blueberry.report.lr_curve import LrCurve
from blueberry.report.writing import write

__all__ = ["LrCurve", "write"]
