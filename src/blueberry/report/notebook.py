"""A judgement as a notebook shows it: its table and its main figure."""

from base64 import b64encode

from blueberry.judge.judgement import Judgement
from blueberry.report.figures import compute, pictures
from blueberry.report.page import page
from blueberry.report.templating import notebook_html
from blueberry.report.vega import png


def notebook(judgement: Judgement) -> str:
    """HTML with the picture inside it. Without the runs there are no learning curves; a written report has them."""
    main = next(pictures(compute(judgement, ())), None)
    picture = "" if main is None else b64encode(png(main.spec)).decode()
    return notebook_html(page(judgement, ()), judgement.metric, picture, "" if main is None else main.caption)
