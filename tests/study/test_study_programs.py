"""What programs are told, which of their files decide the numbers, and every form in which they report."""

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from blueberry import api
from blueberry.errors import StudyError, TrainerError
from blueberry.recipe import Recipe
from blueberry.records import RunResult
from blueberry.study.command import CommandTrainer, command_trainer
from blueberry.study.program import line_pattern
from blueberry.study.program_results import ProgramResults
from blueberry.study.spec import Study
from blueberry.study.workers import Crash
from tests.golden.tables import log


def make(folder: Path, command: list[str], trainer: dict[str, Any] | None = None, **changes: Any) -> Study:
    given: dict[str, Any] = {
        "question": "Which?",
        "vary": {"script.rate": [0.01, 0.02]},
        "seeds": {"search": 1, "confirm": 0},
        "trainer": {"command": command, **(trainer or {})},
    }
    return Study.parse(given | changes, folder / "s.toml")


def trainer_of(study: Study, folder: Path) -> CommandTrainer:
    made = command_trainer(study, folder / "store")
    assert made is not None
    return made


def train(study: Study, folder: Path) -> RunResult:
    *_, result = trainer_of(study, folder)([study.arms[0].recipe])
    assert isinstance(result, RunResult)
    return result


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


# --- What it is told ---------------------------------------------------------------------------------------------


def test_a_placeholder_may_reckon(tmp_path: Path) -> None:
    command = ["x", "{script.rate / 10}", "{script.width * 4}", "{int(script.width / 3)}", "{-script.rate * 3}", "{{}}"]
    command += ["{max(script.width, 100) // 7}", "{script.width ** 2}", "{script.min-lr}", "{ round(script.rate, 1) }"]
    study = make(tmp_path, command, set={"script.width": 64, "script.min-lr": 0.5})
    assert study.trainer is not None
    words = study.trainer.words(study.arms[0].recipe.flat())
    assert words == ("x", "0.001", "256", "21", "-0.03", "{}", "14", "4096.0", "0.5", "0.0")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("{script.rate / 0}", '[trainer] "{script.rate / 0}": in arm "rate=0.01" it divides by zero where script.rate = 0.01'),
        ("{script.name + script.rate}", "\"{script.name + script.rate}\": in arm \"rate=0.01\" script.name is 'a', no number"),
        ("{script.rate ** -9999}", "has no value"),
        ("{9 ** 9 ** 9 ** 9 * script.rate}", "has no value"),
        ("{script.rate.__class__}", 'has no value in arm|no such placeholder'),
        ("{open(script.rate)}", "a placeholder is a setting, or arithmetic"),
        ("{script.rate + lr}", '"{lr}": no such placeholder'),
        ("{2 * 3}", "arithmetic is with settings"),
        ("{script.rate +}", "a placeholder is a setting, or arithmetic"),
        ("{[script.rate for x in script.rate]}", "a placeholder is a setting, or arithmetic"),
        ("{" + "-" * 5000 + "script.rate}", "a placeholder is a setting, or arithmetic"),
        ("{out * 2 + script.rate}", "arithmetic is with settings"),
        ("{script.rate // 10}", 'arms "rate=0.01" and "rate=0.02"; the command is the same for both'),
    ],
)  # fmt: skip
def test_reckoning_that_cannot_be_is_one_line(tmp_path: Path, word: str, said: str) -> None:
    with pytest.raises(StudyError) as caught:
        make(tmp_path, ["x", word, "{script.name}"], set={"script.name": "a"}, vary={"script.rate": [0.01, 0.02]})
    assert any(one in str(caught.value) for one in said.split("|"))
    assert str(caught.value).startswith(f"{tmp_path}/s.toml [trainer] ")


def test_patterns_without_the_metric_are_refused_before_anything_runs(tmp_path: Path) -> None:
    command = ["x", "{script.rate}"]
    with pytest.raises(StudyError, match=r'"stdout": .* no pattern reads "val_los", .*; did you mean "val_loss"'):
        make(tmp_path, command, {"stdout": "step {update}: loss {val_loss}"}, metric="val_los")
    make(tmp_path, command, {"stdout": "step {update}: loss {eval_loss}"})
    make(tmp_path, command, {"stdout": ["step {update}", "acc {acc}"]}, metric="acc", goal="maximize")


def test_a_program_may_work_in_a_folder_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, {"repo/train.py": "import json, sys; print(open('here').read(), 'loss', 3.25)", "repo/here": "yes"})
    command = ["{python}", "train.py", "{script.rate}"]
    study = make(tmp_path, command, {"cwd": "repo", "stdout": "loss {val_loss}"})
    assert train(study, tmp_path).metric("val_loss") == 3.25
    before = trainer_of(study, tmp_path).digest
    write(tmp_path, {"repo/train.py": "print('loss', 3.5)"})
    assert trainer_of(study, tmp_path).digest != before
    with pytest.raises(StudyError, match=r'\[trainer\] "cwd": .*tell the program that folder, \{out\}'):
        make(tmp_path, command, {"cwd": "repo"})
    with pytest.raises(StudyError, match=r'\[trainer\] "cwd": \'rep\'; no such folder'):
        trainer_of(make(tmp_path, command, {"cwd": "rep", "stdout": "loss {val_loss}"}), tmp_path)


# --- Its files ---------------------------------------------------------------------------------------------------

SCRIPT = """
import json, part
from pkg import deep
open("metrics.jsonl", "w").write(json.dumps({"val_loss": part.OFFSET + deep.MORE}))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    files = {
        "train.py": SCRIPT,
        "part.py": "OFFSET = 3.0",
        "pkg/__init__.py": "from . import lazy",
        "pkg/lazy.py": "def f():\n    from .. import nothing\n    import importlib; importlib.import_module('plugin')",
        "pkg/deep.py": "from pkg.other import MORE",
        "pkg/other.py": "MORE = 0.25",
        "plugin.py": "P = 1",
        "wrapper.py": "import subprocess, sys\nsubprocess.run([sys.executable, 'train.py', *sys.argv[1:]])",
        "wrapper.sh": '#!/bin/bash\nexec "$PYTHON" "$(dirname "$0")/train.py" "$@"\n',
        "module.sh": "python -m pkg.deep",
        "unrelated.py": "X = 1",
        "notes.txt": "a",
    }
    write(tmp_path, files)
    return tmp_path


@pytest.mark.parametrize("changed", ["part.py", "pkg/other.py", "pkg/__init__.py", "plugin.py", "train.py"])
@pytest.mark.parametrize(
    "command",
    [
        ["{python}", "train.py"],
        ["{python}", "{here}/train.py"],
        ["{python}", "wrapper.py"],
        ["bash", "wrapper.sh"],
        ["bash", "-c", "cd {here} && python3 train.py $0"],
        ["{python}", "-c", "import train"],
        ["{python}", "-m", "train"],
    ],
    ids=lambda command: " ".join(command),
)
def test_an_edited_part_of_a_program_is_another_program(project: Path, command: list[str], changed: str) -> None:
    study = make(project, [*command, "{script.rate}"])
    before = trainer_of(study, project).digest
    write(project, {"unrelated.py": "X = 2", "notes.txt": "b"})
    assert trainer_of(study, project).digest == before
    (project / changed).write_text((project / changed).read_text() + "\n# edited\n")
    assert trainer_of(study, project).digest != before


def test_a_program_of_an_edited_part_runs_anew(project: Path) -> None:
    study = make(project, ["{python}", "train.py", "{script.rate}"], {"environment": {"PYTHONPATH": "{here}"}})
    first = train(study, project)
    trainer = trainer_of(study, project)
    write(project, {"part.py": "OFFSET = 3.50"})  # of another size: Python tells edits of one second by it
    again = train(study, project)
    assert (first.metric("val_loss"), again.metric("val_loss")) == (3.25, 3.75)
    assert first.fingerprint != again.fingerprint
    with pytest.raises(TrainerError, match="a file of it was changed while the study runs"):
        list(trainer([study.arms[0].recipe]))


@pytest.mark.parametrize(
    ("files", "command", "changed"),
    [
        ({"lib/m.py": "", "t.py": "import sys\nsys.path.insert(0, 'lib')\nimport m"}, ["python", "t.py"], "lib/m.py"),
        ({"lib/m.py": "", "t.py": "import m"}, ["python", "t.py"], "lib/m.py"),
        ({"src/own/m.py": "", "t.py": "import own.m"}, ["python", "t.py"], "src/own/m.py"),
        ({"conf.yaml": "", "t.py": "CONFIG = 'conf.yaml'"}, ["python", "t.py"], "conf.yaml"),
        ({"run.sh": "torchrun  t.py", "t.py": "import m", "m.py": ""}, ["./run.sh"], "m.py"),
        ({"a.py": "", "b.py": "import m", "m.py": ""}, ["python", "{script.file}"], "m.py"),
        ({"c.json": ""}, ["python", "--config", "c.json"], "c.json"),
        ({"t.py": "import m", "m.py": "import n", "n.py": "import m"}, ["python", "t.py"], "n.py"),
    ],
)  # fmt: skip
def test_where_parts_are_looked_for(tmp_path: Path, files: dict[str, str], command: list[str], changed: str) -> None:
    write(tmp_path, files)
    more = {"environment": {"PYTHONPATH": "{here}/lib:/nowhere"}}
    vary = {"script.rate": [0.01, 0.02]} | ({"script.file": ["a.py", "b.py"]} if "{script.file}" in command else {})
    study = make(tmp_path, [*command, "{script.rate}"], more, vary=vary)
    before = trainer_of(study, tmp_path).digest
    (tmp_path / changed).write_text("CHANGED = 1")
    assert trainer_of(study, tmp_path).digest != before


def test_what_is_no_script_is_read_by_nobody(tmp_path: Path) -> None:
    write(tmp_path, {"t.py": f"import {'x' * 3000}\n'{'y/' * 4000}'\n", "broken.py": "def (:", "w.sh": "\0t.py"})
    (tmp_path / "loop.py").symlink_to("loop.py")
    for name in ("t.py", "broken.py", "w.sh", "loop.py", "x" * 5000):
        trainer_of(make(tmp_path, ["python", name, "{script.rate}"]), tmp_path)


# --- What it reports ---------------------------------------------------------------------------------------------


def read(path: Path, metric: str = "val_loss", patterns: tuple[str, ...] = ()) -> RunResult:
    results = ProgramResults(path, metric, patterns)
    results.read()
    results.read(to_end=True)
    return results.result("0" * 16, Recipe(), 1.0)


TRAINER_STATE = {
    "best_metric": None,
    "global_step": 100,
    "log_history": [
        {"loss": 3.4, "step": 50, "epoch": 1.0},
        {"eval_loss": 3.45, "step": 50, "epoch": 1.0},
        {"loss": 3.1, "step": 100},
        {"eval_loss": 3.1483, "eval_runtime": 1.2, "step": 100},
        {"step": 100, "train_loss": 3.4, "train_runtime": 12.3, "total_flos": 1e12},
    ],
}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("trainer_state.json", json.dumps(TRAINER_STATE, indent=2)),
        ("metrics.json", json.dumps([{"update": 50, "val_loss": 3.45}, {"update": 100, "val_loss": 3.1483}])),
        ("metrics.json", json.dumps({"global_step": [50, 100], "val/loss": [3.45, 3.1483]})),
        ("metrics.json", '{"update": 50, "val_loss": 3.45}\n{"update": 100, "val_loss": 3.1483}\n'),
        ("metrics.csv", "epoch,step,train_loss,val_loss\n0,10,3.9,\n0,50,,3.45\n1,60,3.4,\n1,100,,3.1483\n"),
        ("metrics.tsv", "iter\tval_loss\n50\t3.45\n100\t3.1483\n"),
        ("m.jsonl", '{"step": 50, "eval": {"loss": 3.45}}\n{"step": 100, "eval": {"loss": "3.1483"}}'),
    ],
)
def test_every_form_gives_the_same_evaluations(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    result = read(tmp_path / name)
    assert [(one.update, one.validation.loss) for one in result.evaluations] == [(50, 3.45), (100, 3.1483)]
    assert (result.num_updates, result.metric("val_loss")) == (100, 3.1483)


def test_the_training_loss_of_transformers_is_that_of_the_whole_run(tmp_path: Path) -> None:
    (tmp_path / "trainer_state.json").write_text(json.dumps(TRAINER_STATE))
    assert read(tmp_path / "trainer_state.json").metric("train_loss") == 3.4
    (tmp_path / "all_results.json").write_text('{"epoch": 2.0, "eval_loss": 3.15, "train_loss": 3.4}')
    result = read(tmp_path / "all_results.json", "eval_loss")
    assert (result.metric("val_loss"), result.metric("eval_loss"), result.metric("train_loss")) == (3.15, 3.15, 3.4)
    assert result.num_updates is None


def test_steps_that_begin_again_with_each_epoch_are_no_updates(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("epoch,step,val_loss\n0,1,4\n0,2,3.5\n1,1,3.2\n1,2,3\n")
    result = read(tmp_path / "m.csv")
    assert (result.metric("val_loss"), result.evaluations, result.num_updates) == (3.0, (), None)


PRINTED = """\x1b[32mstep 10: train loss 4.5000, lr 1e-3\x1b[0m
 10%|#   | 10/100 [00:01<00:09]\rstep  20: train loss 4.2, lr 1e-3
val loss: 4.1 (best: 9.9), acc 0.25%
step 1,000: train loss .5e1, lr 1e-3
train_val loss: 7
val loss: 3.75 (best: 3.5), acc 0.5%
"""


def test_what_is_printed_is_read_by_patterns(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(PRINTED)
    patterns = ("step {update}: train loss {train_loss}", "val loss: {val_loss} (best: {}), acc {val_accuracy}%")
    result = read(tmp_path / "log", patterns=patterns)
    assert [(one.update, one.validation.loss) for one in result.evaluations] == [(20, 4.1), (1000, 3.75)]
    assert (result.metric("val_accuracy"), result.metric("train_loss")) == (0.5, 5.0)
    with pytest.raises(TrainerError, match=r'"stdout": \'loss \{speed\}\'; no number "val_loss"'):
        read(tmp_path / "log", patterns=("loss {speed}",))


@pytest.mark.parametrize(
    ("pattern", "line", "found"),
    [
        ("step:{update}/{} val_loss:{val_loss}", "step:100/5000 val_loss:3.4 train_time:123ms", ("100", "5000", "3.4")),
        ("'eval_loss': {val_loss}", "{'eval_loss': 3.14, 'epoch': 1.0}", ("3.14",)),
        ("{update} | {val_loss}", "  10 |  -1.5e-3 |", ("10", "-1.5e-3")),
        ("loss={x}", "loss= nan", ("nan",)),
        ("{{{x}}}", "{4}", ("4",)),
        ("loss {x}.", "loss 3.5.", ("3.5",)),
        ("loss {x}", "loss 1.2M", None),
        ("t {x}ms", "t 12ms", ("12",)),
        ("{a},{b} z", "1,2 z", ("1", "2")),
        ("loss: {x}", "train_loss: 3.0", None),
        ("tokens {x}", "tokens 1,234,567", ("1,234,567",)),
    ],
)
def test_a_pattern_is_what_it_looks_like(pattern: str, line: str, found: tuple[str, ...] | None) -> None:
    match = line_pattern(pattern)[0].search(line)
    assert (match.groups() if match else None) == found


@pytest.mark.parametrize("pattern", ["{a}{b}", "{a}", "x {a} {a}", "x {", "loss (?P<x>.*)", "words", " ", "x {\x1b}"])
def test_patterns_that_say_nothing_are_one_line(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(StudyError, match=r'^\S+ \[trainer\] "stdout": '):
        make(tmp_path, ["x", "{script.rate}"], {"stdout": ["loss {val_loss}", pattern]})


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        ("a {x} b {y} c", "a 1" * 50_000), ("{x} b", "1,234" * 50_000), ("{x} b", "1" * 200_000), ("a{x}", "a" * 200_000),
        ("a {x} b", "a " + " " * 200_000), ("{x} b", "-" * 200_000), ("{x}:{y}", "1:" * 100_000),
    ],
)  # fmt: skip
def test_no_line_takes_a_pattern_long(pattern: str, line: str) -> None:
    expression, _ = line_pattern(pattern)
    began = os.times().user
    expression.search(line)
    assert os.times().user - began < 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            '"tokens": 9223372036854775808',
            'm.jsonl line 2 "tokens": 9.22337e+18; must be a whole number from 0 to 2**53',
        ),
        ('"tokens": 1.5', '"tokens": 1.5; must be a whole number'),
        ('"tokens": -1', '"tokens": -1; must be a whole number'),
        ('"update": ' + "1" + "0" * 30, 'm.jsonl line 2 "update": 1e+30; must be'),
        ('"update": ' + "1" + "0" * 400, '"update": inf; must be'),
        ('"val_tokens": NaN', '"val_tokens": nan; must be'),
        ('"flops": -1', '"flops": -1; must be a number from 0'),
        ('"seconds": Infinity', '"seconds": inf; must be a number from 0'),
        ('"seconds": ' + "9" * 5000, '"seconds": inf; must be a number from 0'),
    ],
)
def test_what_can_be_no_number_of_a_run_is_one_line(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "m.jsonl").write_text('{"val_loss": 3}\n{"val_loss": 3, ' + line + "}\n")
    with pytest.raises(Crash) as caught:
        read(tmp_path / "m.jsonl")
    assert said in str(caught.value)


@pytest.mark.parametrize("loss", ["1e308", "-1e300", "1" + "0" * 400, "NaN", "-Infinity", "2e12"])
def test_a_loss_that_cannot_be_has_diverged(tmp_path: Path, loss: str) -> None:
    (tmp_path / "m.jsonl").write_text('{"update": 1, "val_loss": 3}\n{"update": 2, "val_loss": ' + loss + "}\n")
    result = read(tmp_path / "m.jsonl")
    assert (result.status, result.failure and result.failure.update) == ("diverged", 2)


@pytest.mark.parametrize("what", ["mkfifo", "/dev/zero", "endless line", "endless lines"])
def test_a_file_that_never_ends_is_one_line(tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blueberry.study.program_results.MOST_LINES", 1000)
    script = {
        "mkfifo": "os.mkfifo('metrics.jsonl'); time.sleep(60)",
        "/dev/zero": "os.symlink('/dev/zero', 'metrics.jsonl'); time.sleep(60)",
        "endless line": "f = open('metrics.jsonl', 'w')\nwhile True: f.write('x' * 2**16); time.sleep(0.001)",
        "endless lines": "f = open('metrics.jsonl', 'w')\nwhile True: f.write('{}\\n' * 2**10); time.sleep(0.001)",
    }[what]
    (tmp_path / "t.py").write_text(f"import os, time\n{script}\n")
    study = make(tmp_path, [sys.executable, "t.py", "{script.rate}"], {"time_limit_seconds": 30})
    with pytest.raises(TrainerError, match=r"(not a regular file|is read no further)"):
        train(study, tmp_path)


# --- Folders of other tools --------------------------------------------------------------------------------------


def wandb_run(folder: Path, loss: float = 3.2) -> None:
    write(
        folder,
        {
            "wandb-summary.json": json.dumps({"val/loss": loss, "_step": 90, "_runtime": 12.5, "global_step": 100}),
            "config.yaml": "lr:\n  value: 0.1\nbatch_size:\n  value: 32\n",
        },
    )


def test_the_folder_of_a_run_that_wandb_kept_is_its_result(tmp_path: Path) -> None:
    wandb_run(tmp_path / "wandb" / "offline-run-1" / "files")
    result = read(tmp_path / "wandb")
    assert (result.status, result.metric("val_loss"), result.num_updates) == ("completed", 3.2, 100)
    assert result.extra["batch_size"] == 32
    assert read(tmp_path / "wandb", "val/loss").metric("val/loss") == 3.2


def test_the_folder_of_event_files_is_a_result(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    log(tmp_path / "logs" / "run", 3.25)
    result = read(tmp_path / "logs")
    assert (result.status, result.metric("val_loss")) == ("completed", 3.25)
    log(tmp_path / "nan" / "run", math.nan)
    assert read(tmp_path / "nan").status == "diverged"


def test_the_folder_that_lightning_wrote_is_a_result(tmp_path: Path) -> None:
    text = "epoch,step,train_loss,val_loss\n0,10,3.9,\n0,20,,3.50\n1,30,3.4,\n1,40,,3.1\n"
    write(tmp_path, {"logs/version_0/metrics.csv": text, "logs/version_0/hparams.yaml": "lr: 0.1\n"})
    result = read(tmp_path / "logs")
    assert (result.metric("val_loss"), result.num_updates, result.extra["lr"]) == (3.1, 40, 0.1)


def test_a_folder_of_no_run_or_of_several_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrainerError, match=r'^\[trainer\] "result": [^\n]+a folder without runs'):
        read(tmp_path / "empty")
    for name in ("a", "b"):
        wandb_run(tmp_path / "two" / name)
    with pytest.raises(TrainerError, match=r'"result": two; 2 runs are in it; a run has a folder of its own'):
        read(tmp_path / "two")
    wandb_run(tmp_path / "one")
    with pytest.raises(TrainerError, match=r'one has no number "val_acc", the metric of the study'):
        read(tmp_path / "one", "val_acc")


WRITES_A_FOLDER = """
import json, os, sys
rate, seed = float(sys.argv[1]), int(sys.argv[2])
os.makedirs("wandb/run/files")
json.dump({"val_loss": 3 + rate, "global_step": 5}, open("wandb/run/files/wandb-summary.json", "w"))
"""


def test_a_program_may_leave_a_folder(tmp_path: Path) -> None:
    write(tmp_path, {"train.py": WRITES_A_FOLDER})
    command = [sys.executable, "train.py", "{script.rate}", "{seed}"]
    result = train(make(tmp_path, command, {"result": "wandb"}), tmp_path)
    assert (result.status, result.metric("val_loss"), result.num_updates) == ("completed", 3.01, 5)


# --- What it reports of its settings -----------------------------------------------------------------------------


REPORTS_A_SETTING = """
import json, sys
rate, seed = float(sys.argv[1]), int(sys.argv[2])
loss = 3 + abs(rate - 0.02) * 10 + seed / 1000 + (hash((rate, seed)) % 7) / 1e4
print(json.dumps({"update": 9, "val_loss": loss, SETTING}), file=open("metrics.jsonl", "w"))
"""


@pytest.mark.parametrize(
    ("setting", "blocking"),
    [
        ('"batch_size": 32 if rate == 0.02 else 64', ["confounded"]),
        ('"config": {"weight_decay": 0.1 * (rate > 0.01)}', ["confounded"]),
        ('"width": {0.01: 64, 0.02: 128, 0.04: 256}[rate]', ["confounded"]),
        ('"batch_size": 64, "min_lr": rate / 10, "grad_norm": rate + seed, "dropout": seed / 10', []),
    ],
)
def test_a_setting_that_differs_between_arms_blocks(tmp_path: Path, setting: str, blocking: list[str]) -> None:
    write(tmp_path, {"train.py": REPORTS_A_SETTING.replace("SETTING", setting)})
    command = [sys.executable, "-S", "train.py", "{script.rate}", "{seed}"]
    changes = {"vary": {"script.rate": [0.01, 0.02, 0.04]}, "seeds": {"search": 3, "confirm": 0}}
    judged = api.conduct(make(tmp_path, command, **changes), store=tmp_path / "store", workers=0).judgement
    assert [one.audit for one in judged.blocks] == blocking
    assert (judged.recommendation.settings is None) == bool(blocking)
