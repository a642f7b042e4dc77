"""Studies of programs that are not ours, through everything that a command of Blueberry does with them."""

import contextlib
import os
import sqlite3
import sys
from pathlib import Path

import pytest

from blueberry import api
from blueberry.cli import words
from blueberry.errors import StudyError
from blueberry.files import to_toml
from blueberry.judge.forecast import Forecast
from blueberry.study import command as command_module
from blueberry.study.command import command_trainer
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


MISSING = [
    (["{python}", "trian.py", "{script.rate}", "{seed}"], {}, "'trian.py'; no such file beside the study file"),
    (["{python}", "-u", "-X", "dev", "sub/train.py", "{script.rate}", "{seed}"], {}, None),
    (["{python}", "-S", "-W", "{here}/trian.py", "{script.rate}", "{seed}"], {}, None),
    (["{python}", "-Su", "{here}/trian.py", "{script.rate}", "{seed}"], {}, "/trian.py'; no such file; mend"),
    (["env", "A=1", "B={seed}", "{python}", "trian.py", "{script.rate}"], {}, "'trian.py'; no such file beside"),
    (["bash", "-eu", "trian.sh", "{script.rate}", "{seed}"], {}, "'trian.sh'; no such file beside"),
    (["{python}", "train.py", "{script.rate}", "{seed}", "{out}"], {"cwd": "sub"}, "'train.py'; no such file in sub"),
    (["./trian.sh", "{script.rate}", "{seed}"], {}, "'./trian.sh'; no such file beside the study file"),
    (["./train.py", "{script.rate}", "{seed}"], {}, "'./train.py'; it may not be executed"),
    (["{here}/venv/bin/python", "train.py", "{script.rate}", "{seed}"], {}, "/venv/bin/python'; no such file; mend"),
    (["venv/bin/python", "{script.rate}", "{seed}", "{out}"], {"cwd": "sub"}, "'venv/bin/python'; no such file in sub"),
    (["source", "{here}", "{script.rate}", "{seed}"], {}, "'source'; no such program here"),
    (["python3", "/nowhere/{script.rate}.py", "{seed}"], {}, "'/nowhere/0.01.py'; no such file; mend"),
    (["trian-all", "{script.rate}", "{seed}"], {}, "'trian-all'; no such program here"),
    (["{python}", "train_{script.rate}.py", "{seed}"], {}, "'train_0.01.py'; no such file beside"),
    (["sub", "{script.rate}", "{seed}"], {}, "'sub'; it is a folder; name the program in it"),
    (
        ["own", "{script.rate}", "{seed}", "{out}"],
        {"cwd": "bin"},
        "'own'; a bare name is looked for on PATH; write ./own",
    ),
]
NOT_MISSING = [
    (["{python}", "train.py", "{script.rate}", "{seed}"], {}),
    (["{python}", "../{script.rate}/{seed}.py"], {}),
    (["{python}", "{out}/made.py", "{script.rate}", "{seed}"], {}),
    (["{python}", "-m", "trian", "{script.rate}", "{seed}"], {}),
    (["{python}", "-c", "print('trian.py')", "{script.rate}", "{seed}"], {}),
    (["{python}", "-", "{script.rate}", "{seed}"], {}),
    (["bash", "-c", "cd elsewhere && python trian.py", "{script.rate}", "{seed}"], {}),
    (["bash", "trian.sh", "{script.rate}", "{seed}"], {"environment": {"PATH": "elsewhere"}}),
    (["env", "PATH=elsewhere", "bash", "trian.sh", "{script.rate}", "{seed}"], {}),
    (["env", "-C", "elsewhere", "{python}", "trian.py", "{script.rate}", "{seed}"], {}),
    (["nice", "-n", "5", "{python}", "train.py", "{script.rate}", "{seed}"], {}),
    (["env", "{python}", "train.py", "--config", "made-later.py", "{script.rate}", "{seed}"], {}),
    (["env", "docker-or-so", "{python}", "/in/the/container.py", "{script.rate}", "{seed}"], {}),
    (["{python}", "sub/inner.py", "{script.rate}", "{seed}"], {}),
    (["{python}", "inner.py", "{script.rate}", "{seed}", "{out}"], {"cwd": "sub"}),
    (["{python}", "sub", "{script.rate}", "{seed}"], {}),
    (["sh", "on-the-path.sh", "{script.rate}", "{seed}"], {}),
    (["on-the-path.sh", "{script.rate}", "{seed}"], {}),
    (["env", "--chdir={here}/sub", "{python}", "inner.py", "{script.rate}", "{seed}"], {}),
    (["env", "--split-string=-C elsewhere", "{python}", "trian.py", "{script.rate}", "{seed}"], {}),
    (["{python}", "../../../elsewhere/trian.py", "{script.rate}", "{seed}"], {}),  # from the run's own folder
    (["../../../elsewhere/trian.sh", "{script.rate}", "{seed}"], {}),
    (["bin/python", "trian.py", "{script.rate}", "{seed}"], {}),  # it may go elsewhere first
]


def of_command(folder: Path, command: list[str], more: dict[str, object], vary: str = "[0.01, 0.02]") -> Study:
    """A study of a command; beside it lie train.py, sub/inner.py, and bin with two programs."""
    for name in ("train.py", "sub/inner.py", "sub/__main__.py", "bin/own", "bin/python"):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text("#!/bin/sh\n")
    for path in (folder / "bin").iterdir():
        path.chmod(0o700)
    text = STUDY.replace("[0.01, 0.02]", vary).split("command =")[0] + to_toml({"command": command, **more})
    (folder / "rates.toml").write_text(text.replace("[environment]", "[trainer.environment]"))
    return Study.load(folder / "rates.toml")


@pytest.mark.parametrize(("command", "more", "said"), MISSING)
def test_a_program_or_script_that_is_not_there_is_said_before_training(
    tmp_path: Path, command: list[str], more: dict[str, object], said: str | None
) -> None:
    study = of_command(tmp_path, command, more)
    if said is None:  # options whose arguments are not known here
        api.foresee(study, tmp_path / "store")
        return
    for ask in (api.foresee, lambda study, store: api.conduct(study, store=store, workers=0)):
        with pytest.raises(StudyError) as caught:
            ask(study, tmp_path / "store")
        assert str(caught.value).startswith(f'{study.path} [trainer] "command": ')
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(StudyError, match="none of the runs"):  # a report needs no program
        api.look(study, tmp_path / "store")


@pytest.mark.parametrize(("command", "more"), NOT_MISSING)
def test_what_may_be_there_when_it_runs_is_not_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], more: dict[str, object]
) -> None:
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "on-the-path.sh").write_text("#!/bin/sh\n")
    (tmp_path / "path" / "on-the-path.sh").chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path / "path"), prepend=os.pathsep)
    for rate in ("0.01", "0.02"):
        for seed in range(3):
            (tmp_path.parent / rate).mkdir(exist_ok=True)
            (tmp_path.parent / rate / f"{seed}.py").touch()
    assert api.foresee(of_command(tmp_path, command, more), tmp_path / "store").runs_todo == 6


def test_a_program_that_is_gone_is_missed_only_while_something_is_left_to_train(study: Study, tmp_path: Path) -> None:
    (tmp_path / "run-it").write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    (tmp_path / "run-it").chmod(0o700)
    text = STUDY.replace('"{python}", "-S", "train.py"', '"run-it-all", "{here}/train.py"')
    (tmp_path / "rates.toml").write_text(text)
    (tmp_path / "bin").mkdir()
    (tmp_path / "run-it").rename(tmp_path / "bin" / "run-it-all")
    study = Study.load(tmp_path / "rates.toml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
        assert api.conduct(study, store=tmp_path / "store", workers=0).num_trained == 6
    assert api.conduct(study, store=tmp_path / "store", workers=0).num_trained == 0
    assert api.foresee(study, tmp_path / "store").runs_todo == 0


def test_a_program_whose_runs_have_ended_is_not_missed(study: Study, tmp_path: Path, monkeypatch) -> None:
    text = STUDY.replace('"{python}", "-S", "train.py"', '"{script.tool}", "{here}/train.py"')
    (tmp_path / "rates.toml").write_text(text.replace("[vary]", '[vary]\n"script.tool" = ["tool-a", "tool-b"]'))
    (tmp_path / "bin").mkdir()
    for tool, does in (("tool-a", f'exec "{sys.executable}" -S "$@"'), ("tool-b", "exit 3")):
        (tmp_path / "bin" / tool).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / "bin" / tool).chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    study = Study.load(tmp_path / "rates.toml")
    assert api.conduct(study, store=tmp_path / "store", workers=0).num_trained == 6
    (tmp_path / "bin" / "tool-a").rename(tmp_path / "bin" / "tool-b")
    assert api.conduct(study, store=tmp_path / "store", workers=0).num_trained == 6


@pytest.mark.parametrize("section", ["across", "tune"])
def test_what_a_program_is_told_may_vary_between_the_parts_of_a_search(tmp_path: Path, section: str) -> None:
    (tmp_path / "train.py").touch()
    told = {"across": '[vary]\n"script.rate" = { log = [0.001, 0.1] }\n[across]\n"script.steps" = [10, 20]\n',
            "tune": '[vary]\n"script.steps" = [10, 20]\n[tune]\n"script.rate" = { log = [0.001, 0.1] }\n'}  # fmt: skip
    command = '[trainer]\ncommand = ["{python}", "train.py", "{script.rate}", "{script.steps}", "{seed}"]\n'
    text = f'question = "Which rate?"\nbase = "moe-nano"\n{told[section]}[strategy]\nmethod = "locate"\n{command}'
    (tmp_path / "rates.toml").write_text(text)
    assert api.foresee(Study.load(tmp_path / "rates.toml"), tmp_path / "store").runs_todo > 6


@pytest.mark.parametrize("method", ["grid", "locate", "optuna"])
def test_runs_of_an_edited_script_are_others_also_where_arms_are_proposed(tmp_path: Path, method: str) -> None:
    text = STUDY.replace("[0.01, 0.02]", "{ log = [0.001, 0.1], points = 3 }") + f'[strategy]\nmethod = "{method}"\n'
    text = text.replace(", points = 3", "") if method != "grid" else text
    text += "trials = 6\n" if method == "optuna" else ""
    (tmp_path / "rates.toml").write_text(text)
    names = set()
    for edited in ("", "# edited\n"):
        (tmp_path / "train.py").write_text(edited)
        study = Study.load(tmp_path / "rates.toml")
        names.add(command_trainer(study, tmp_path / "store").digest)
    assert len(names) == 2


def test_a_script_is_missed_where_arms_are_yet_to_be_proposed(tmp_path: Path) -> None:
    text = STUDY.replace("[0.01, 0.02]", "{ log = [0.001, 0.1] }").replace("train.py", "trian.py")
    (tmp_path / "rates.toml").write_text(text + '[strategy]\nmethod = "locate"\n')
    with pytest.raises(StudyError, match=r"'trian.py'; no such file beside"):
        api.foresee(Study.load(tmp_path / "rates.toml"), tmp_path / "store")
