"""A judged study as figures, a page, Markdown and JSON. Everything is computed before anything is drawn.

`writing.write(judgement, runs, folder)` does it all: `runs` are those of the judgement, wherever they were trained.
"""
