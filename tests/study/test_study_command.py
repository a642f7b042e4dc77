"""Real small programs as trainers: what they say, and every way in which they end."""

import os
import signal
import time
from pathlib import Path

import pytest
from study_scripts import STUDY, make_study

from blueberry.errors import StudyError, TrainerError
from blueberry.recipe import Recipe, fingerprint
from blueberry.records import Progress, RunResult
from blueberry.study import command as command_module
from blueberry.study.command import CommandTrainer, command_trainer
from blueberry.study.spec import Study
from blueberry.study.workers import Crash


@pytest.fixture(scope="module", autouse=True)
def quick_looks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command_module, "LOOK_SECONDS", (0.01, 0.02))
        yield


def trainer_of(study: Study, folder: Path) -> CommandTrainer:
    made = command_trainer(study, folder / "store")
    assert made is not None
    return made


def recipe_of(study: Study, rate: float, seed: int = 5) -> Recipe:
    return study.base.with_({"script.rate": rate, "seed": seed})


def train(folder: Path, habit: str = "none", rate: float = 0.02, more: str = "") -> RunResult:
    study = make_study(folder, habit, more)
    *progress, result = trainer_of(study, folder)([recipe_of(study, rate)])
    assert isinstance(result, RunResult)
    assert progress
    assert all(isinstance(said, Progress) for said in progress)
    return result


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_programs_lines_become_a_result(tmp_path: Path) -> None:
    result = train(tmp_path)
    study = Study.load(tmp_path / "rates.toml")
    trainer = trainer_of(study, tmp_path)
    assert result.fingerprint == fingerprint(recipe_of(study, 0.02), trainer.digest)
    assert result.status == "completed"
    assert result.metric("val_loss") == 4 + (0.02 - 0.03) ** 2 + 1 / 6 + 5 / 1000
    assert result.metric("val_accuracy") == 0.25
    assert result.extra == {"speed": 2.5}
    assert result.metric("speed") == 2.5
    assert [(one.update, one.tokens) for one in result.evaluations] == [(3, None), (6, None)]
    assert len(result.curve.train_loss) == result.num_updates == 6
    assert result.metric("train_loss") == result.curve.train_loss[-1]
    assert (result.num_tokens, result.num_flops) == (60, None)
    assert result.train_seconds > 0
    assert result.recipe["script.rate"] == 0.02
    assert not (tmp_path / "store" / "commands" / result.fingerprint).exists()


def test_a_loss_that_is_not_finite_is_a_result_whatever_the_exit_code(tmp_path: Path) -> None:
    for habit in ("none", "fails with nan"):
        result = train(tmp_path, habit, rate=2.0)
        assert result.status == "diverged"
        assert result.failure is not None
        assert (result.failure.kind, result.failure.update) == ("diverged", 4)
        assert result.final is None
        assert result.metric("val_loss") is None


def test_a_program_that_fails_has_crashed_and_said_something(tmp_path: Path) -> None:
    with pytest.raises(Crash) as caught:
        train(tmp_path, "exits")
    said = str(caught.value)
    assert said.startswith(
        "the command ended by exit code 3 (it said last: at work on 0.02 5 | a last word); all of it"
    )
    (folder,) = (tmp_path / "store" / "commands").iterdir()
    assert said.endswith(str(folder))
    assert "a last word" in (folder / "output.log").read_text()


def test_a_program_that_is_killed_has_crashed(tmp_path: Path) -> None:
    with pytest.raises(Crash, match=r"ended by signal 9 \(SIGKILL\)"):
        train(tmp_path, "resumes")


def test_a_program_that_resumes_takes_back_what_it_had_said_since(tmp_path: Path) -> None:
    more = "resumes = true\n"
    with pytest.raises(Crash):
        train(tmp_path, "resumes", more=more)
    result = train(tmp_path, "resumes", more=more)
    assert len(result.curve.train_loss) == 6
    assert 99.0 not in result.curve.train_loss


def test_without_resumes_an_attempt_begins_with_an_empty_folder(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(Crash):
            train(tmp_path, "resumes")


def test_a_time_limit_kills_the_program_and_all_that_it_started(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PIDS", str(tmp_path / "pids"))
    with pytest.raises(Crash, match=r"took longer than time_limit_seconds = 1 \(it said last: at work on 0.02 5\)"):
        train(tmp_path, "hangs", more="time_limit_seconds = 1\n")
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    deadline = time.monotonic() + 5
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_program_dies_with_the_process_that_called_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PIDS", str(tmp_path / "pids"))
    study = make_study(tmp_path, "hangs")
    trainer = trainer_of(study, tmp_path)
    worker = os.fork()
    if worker == 0:
        for _ in trainer([recipe_of(study, 0.02)]):
            pass
        os._exit(0)
    deadline = time.monotonic() + 20
    while not (tmp_path / "pids").exists() or len((tmp_path / "pids").read_text().split()) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    os.kill(worker, signal.SIGKILL)
    os.waitpid(worker, 0)
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_closing_the_trainer_kills_the_program(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PIDS", str(tmp_path / "pids"))
    study = make_study(tmp_path, "hangs")
    events = iter(trainer_of(study, tmp_path)([recipe_of(study, 0.02)]))
    for said in events:
        assert isinstance(said, Progress)
        if said.update >= 1:
            break
    while not (tmp_path / "pids").exists() or len((tmp_path / "pids").read_text().split()) < 2:
        time.sleep(0.01)
    events.close()  # pyright: ignore[reportAttributeAccessIssue]
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    deadline = time.monotonic() + 5
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_last_line_needs_no_line_break(tmp_path: Path) -> None:
    assert train(tmp_path, "torn").metric("val_loss") == 3.5


@pytest.mark.parametrize(
    ("habit", "more", "kind", "said"),
    [
        ("bad line", "", Crash, "metrics.jsonl line 9: 'loss: 4'; every line must be a JSON object; mend the program"),
        ("no file", "", TrainerError, "metrics.jsonl; no such file after the command had ended; the command must"),
        ("none", 'result = "other.jsonl"\n', TrainerError, "other.jsonl; no such file after the command had ended"),
    ],
)
def test_what_a_program_did_not_write_is_said(tmp_path: Path, habit: str, more: str, kind: type, said: str) -> None:
    with pytest.raises(kind) as caught:
        train(tmp_path, habit, more=more)
    assert said in str(caught.value)
    assert "it said last: at work on 0.02 5" in str(caught.value)


def test_a_metric_that_is_missing_is_named_with_the_nearest(tmp_path: Path) -> None:
    study = make_study(tmp_path, text='metric = "val_lss"\n' + STUDY)
    with pytest.raises(TrainerError, match='has no number "val_lss", the metric of the study; did you mean "val_loss"'):
        list(trainer_of(study, tmp_path)([recipe_of(study, 0.02)]))


def test_a_program_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    study = make_study(tmp_path, text=STUDY.replace("{python}", "no-such-python"))
    with pytest.raises(TrainerError, match="'no-such-python'; no such program here"):
        list(trainer_of(study, tmp_path)([recipe_of(study, 0.02)]))


def test_environment_and_places_are_filled_in(tmp_path: Path) -> None:
    script = (
        "import json, os; recipe = json.load(open(os.environ['RECIPE']))\n"
        "line = {'val_loss': recipe['script']['rate'] + recipe['seed'], 'braces': len(os.environ['BRACES'])}\n"
        "open('metrics.jsonl', 'w').write(json.dumps(line)); assert os.getcwd() == os.environ['OUT']\n"
    )
    text = STUDY[: STUDY.index("[trainer]")].replace('"script.habit" = "none"\n', "")
    text += '[trainer]\ncommand = ["{python}", "own.py"]\n'
    text += 'environment = { RECIPE = "{recipe}", OUT = "{out}", BRACES = "{{}}" }\n'
    (tmp_path / "own.py").write_text(script)
    study = make_study(tmp_path, text=text)
    *_, result = trainer_of(study, tmp_path)([recipe_of(study, 0.5, seed=3)])
    assert isinstance(result, RunResult)
    assert result.metric("val_loss") == 3.5
    assert result.extra == {"braces": 2.0}
    assert result.num_tokens is None


@pytest.mark.parametrize("name", ["metrics.jsonl", "result.json"])
def test_a_number_that_a_program_gives_twice_is_none(tmp_path: Path, name: str) -> None:
    text = STUDY[: STUDY.index("[trainer]")].replace('"script.habit" = "none"\n', "")
    text += f'[trainer]\ncommand = ["{{python}}", "own.py", "{{recipe}}"]\nresult = "{name}"\n'
    (tmp_path / "own.py").write_text(f"""open('{name}', 'w').write('{{"val_loss": 3.5, "val_loss": 3.4}}')""")
    study = make_study(tmp_path, text=text)
    with pytest.raises(Crash, match='"val_loss" has two values in one object'):
        list(trainer_of(study, tmp_path)([recipe_of(study, 0.5, seed=3)]))


def test_an_edited_script_is_another_run_and_never_one_of_the_study_that_runs(tmp_path: Path) -> None:
    study = make_study(tmp_path, more='files = ["*.txt"]\n')
    with pytest.raises(StudyError, match=r"'\*.txt'; it matches no file"):
        trainer_of(study, tmp_path)
    (tmp_path / "words.txt").write_text("one")
    before = trainer_of(study, tmp_path)
    assert trainer_of(study, tmp_path) == before
    (tmp_path / "words.txt").write_text("another")
    assert trainer_of(study, tmp_path).digest != before.digest
    (tmp_path / "words.txt").write_text("one")
    assert trainer_of(study, tmp_path).digest == before.digest
    (tmp_path / "train.py").write_text("print('new')")
    with pytest.raises(TrainerError, match="a file of it was changed while the study runs"):
        list(before([recipe_of(study, 0.02)]))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("{script.rate}", "{script.rat}", '[trainer] "{script.rat}": has no value in arm "rate=0.01"'),
        ("{script.rate}", "{optimizer.lr}", '[trainer] "{optimizer.lr}": no such placeholder'),
        ("{script.rate}", "{sed}", '[trainer] "{sed}": no such placeholder; did you mean "seed"?'),
        ('"{script.rate}", ', "", '"script.rate": given, but the command is not told it'),
        (', "{script.habit}"', "", '"script.habit": given, but the command is not told it'),
        (', "{seed}"', "", '"seed": 3 seeds, but the command is not told which'),
        ("{seed}", "{seed", "a brace stands alone"),
        ("{seed}", "{train.tokens}{seed}", "the length is given as train.updates; write {train.updates}"),
        ("command = [", "command = [1, ", '"command": 1; input should be a valid string'),
        ("command = [", "comand = [", '[trainer] "comand": no such setting; did you mean "command"?'),
        ("[seeds]", '"script.a.b" = [1, 2]\n[seeds]', '"script.a.b": no such setting'),
        ("[trainer]", '[trainer]\nresult = "/tmp/x"', "a path inside the run's folder"),
        ("[trainer]", "[trainer]\ntime_limit_seconds = 0", "input should be greater than 0"),
        ("[trainer]", "[trainer]\nresumes = 1", "input should be a valid boolean"),
        (
            "[trainer]",
            "[trainer]\nenvironment = { A = 1 }",
            '[trainer] "environment": 1; input should be a valid string',
        ),
        ("[trainer]", "[no]", '"no": no such setting'),
    ],
)
def test_mistakes_in_the_section_are_one_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in STUDY
    with pytest.raises(StudyError) as caught:
        make_study(tmp_path, text=STUDY.replace(old, new))
    assert said in str(caught.value)


def test_the_built_in_trainer_takes_no_settings_of_scripts(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text("")
    text = 'base = "base.toml"\n' + STUDY[: STUDY.index("[trainer]")]
    with pytest.raises(StudyError, match=r'"script.habit": given; the built-in trainer reads no settings under script'):
        make_study(tmp_path, text=text)


def test_any_metric_will_do_and_ours_can_be_varied(tmp_path: Path) -> None:
    text = STUDY.replace("script.rate", "optimizer.muon.learning_rate") + 'result = "a/b.jsonl"\n'
    study = make_study(tmp_path, text='metric = "word_error"\n' + text)
    assert study.metric == "word_error"
    assert study.varied == ("optimizer.muon.learning_rate",)
