"""Studies of programs that are not ours, through everything that a command of Blueberry does with them."""

import contextlib
import sqlite3
from pathlib import Path

import pytest

from blueberry import api
from blueberry.cli import words
from blueberry.judge.forecast import Forecast
from blueberry.study import command as command_module
from blueberry.study.spec import Study

SCRIPT = """
import json, sys
rate, seed = float(sys.argv[1]), int(sys.argv[2])
with open("metrics.jsonl", "w") as file:
    for update in (5, 10):
        line = {"update": update, "val_loss": 4 + 1 / update + (rate - 0.02) ** 2 * 100 + seed / 100}
        file.write(json.dumps(line) + "\\n")
"""
STUDY = """
question = "Which rate is best for the script?"
[vary]
"script.rate" = [0.01, 0.02]
[seeds]
search = 3
confirm = 0
[trainer]
command = ["{python}", "-S", "train.py", "{script.rate}", "{seed}"]
"""


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.setattr(command_module, "LOOK_SECONDS", (0.01, 0.02))
    (tmp_path / "train.py").write_text(SCRIPT)
    (tmp_path / "rates.toml").write_text(STUDY)
    return Study.load(tmp_path / "rates.toml")


def test_planned_run_judged_and_reported(study: Study, tmp_path: Path) -> None:
    store = tmp_path / "store"
    before = api.foresee(study, store)
    assert (before.tokens, before.flops, before.updates, before.disk_bytes, before.seconds) == (None,) * 5
    said = words.forecast(before)
    assert "0 done, 6 to do, of unknown length" in said
    assert "tokens and FLOP unknown" in said
    assert "disk unknown" in said

    judged = api.conduct(study, store=store, workers=0)
    assert judged.num_trained == 6
    insights = judged.judgement.to_dict()
    assert insights["best"]["arm"] == "rate=0.02"
    assert [verdict["verdict"] for verdict in insights["verdicts"]] == ["winner"]
    assert insights["cost"]["runs"] == 6
    assert (insights["cost"]["tokens"], insights["cost"]["flops"]) == (None, None)
    assert api.conduct(study, store=store, workers=0).num_trained == 0
    assert api.look(study, store).judgement == judged.judgement
    after = api.foresee(study, store)
    assert (after.runs_done, after.runs_todo, after.seconds) == (6, 0, 0.0)

    page = judged.report(tmp_path / "report").read_text()
    assert "script.rate" in page
    assert "not recorded" in page

    (tmp_path / "train.py").write_text(SCRIPT + "# another\n")
    assert api.foresee(study, store).runs_done == 0, "an edited script is another program"


@pytest.mark.parametrize("column", ["metrics", "body"])
def test_a_damaged_result_is_trained_again_though_its_run_is_foreseen(
    study: Study, tmp_path: Path, column: str
) -> None:
    store = tmp_path / "store"
    api.conduct(study, store=store, workers=0)
    with contextlib.closing(sqlite3.connect(store / "store.sqlite", isolation_level=None)) as sql:
        sql.execute(f"UPDATE results SET {column} = '{{}}' WHERE rowid = 1")
    foreseen: list[Forecast] = []
    judged = api.conduct(study, store=store, workers=0, on_forecast=foreseen.append)
    assert [seen.runs_todo for seen in foreseen] == [1]
    assert judged.num_trained == 1
    assert not judged.plan.todo


def test_the_built_in_trainer_refuses_settings_of_scripts() -> None:
    from blueberry.errors import RecipeError
    from blueberry.lm.trainer import Trainer
    from blueberry.recipe import Recipe

    with pytest.raises(RecipeError, match=r'"script.rate": given; the built-in trainer reads no settings'):
        next(iter(Trainer(Path("nowhere"))([Recipe().with_({"script.rate": 1})])))
