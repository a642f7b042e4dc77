import sys
from types import ModuleType, SimpleNamespace

import planted
import pytest

import blueberry
from blueberry.report import notebook


@pytest.mark.parametrize(("name", "num_pictures"), [("hostile", 1), ("all_diverged", 1)])
def test_a_notebook_shows_the_table_and_the_main_figure(name, num_pictures, drawn):
    judgement = getattr(planted, name)().judgement
    shown = notebook(judgement)
    assert shown.count("<tr>") == 1 + len(judgement.arms)
    assert shown.count("data:image/png;base64,iVBOR") == num_pictures
    assert "<script" not in shown


def test_a_notebook_is_told_of_judgements_before_there_is_one(monkeypatch):
    told = {}
    formatter = SimpleNamespace(for_type_by_name=lambda module, name, show: told.update({(module, name): show}))
    shell = SimpleNamespace(display_formatter=SimpleNamespace(formatters={"text/html": formatter}))
    fake = ModuleType("IPython")
    fake.get_ipython = lambda: shell  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "IPython", fake)
    blueberry._tell_notebooks()
    ((where, show),) = told.items()
    assert where == (blueberry.Judgement.__module__, blueberry.Judgement.__name__)
    assert "<table>" in show(planted.sweep().judgement)
