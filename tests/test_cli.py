"""The command line, as a person meets it: in one process with the tests, but for what trains."""

import json
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent

RECIPE = """
[model]
width = 16
num_layers = 1
context_tokens = 16
[model.feed_forward]
hidden = 16
num_experts = 2
[data]
corpus = "synthetic"
tokenizer = "byte"
[train]
updates = 12
batch_sequences = 2
[evaluate]
every_updates = 6
tokens = 256
"""

STUDY = """
question = "Which rate?"
base = "tiny.toml"
min_effect = 0.05
[vary]
"optimizer.muon.learning_rate" = [0.003, 0.01, 0.03]
[seeds]
search = 3
confirm = 2
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "tiny.toml").write_text(RECIPE)
    (tmp_path / "lr.toml").write_text(STUDY)
    return tmp_path


@pytest.fixture
def blueberry(here, command, monkeypatch):
    """Runs a command here, in this process."""
    monkeypatch.chdir(here)
    return command


@pytest.fixture
def refusal(blueberry):
    """Runs a command that must fail with exit code 2, and gives the one line it says."""

    def run(*words: str) -> str:
        done = blueberry(*words)
        assert (done.code, done.out) == (2, "")
        assert len(done.err.splitlines()) == 1, done.err
        return done.err.strip()

    return run


def test_a_study_from_plan_to_report(here, blueberry):
    planned = json.loads(blueberry("plan", "lr.toml", "--json", "--no-timing").out)
    assert (planned["runs_done"], planned["runs_todo"], planned["seconds"]) == (0, 11, None)
    assert [path.name for path in (here / ".blueberry").iterdir()] == ["data"], "the text it will train on, no store"

    done = blueberry("run", "lr.toml", "--json", "--workers", "1")
    answer = json.loads(done.out)
    assert answer["schema"] == "blueberry/insights/1"
    assert answer["trained"] == 11
    assert answer["failed"] == 0
    assert done.code == (1 if any(a["severity"] == "block" for a in answer["audits"]) else 0)
    report = here / "reports" / "lr"
    insights = json.loads((report / "insights.json").read_text())
    assert {name: answer[name] for name in insights} == insights
    for name in ("index.html", "report.md", "results.json", "figures/loss_vs_learning_rate.png", "figures/curves.png"):
        assert (report / name).stat().st_size > 0
    assert len(json.loads((report / "results.json").read_text())["runs"]) == 11

    again = blueberry("run", "lr.toml")
    assert again.code == done.code
    assert [line.split(":")[0] for line in again.out.splitlines()] == ["Known", "Open", "Report"]
    assert insights["known"] in again.out
    repeated = json.loads((report / "insights.json").read_text())
    assert repeated == insights

    status = json.loads(blueberry("status", "--json").out)["studies"][0]
    assert (status["done"], status["running"], status["failed"], status["left"]) == (11, [], 0, 0)
    assert "11 of 11 runs done" in blueberry("status", "lr.toml").out
    later = json.loads(blueberry("plan", "lr.toml", "--json", "--no-timing").out)
    assert (later["runs_done"], later["runs_todo"], later["seconds"]) == (11, 0, 0.0)
    assert later["detectable"] > 0
    assert blueberry("report", "lr.toml", "--out", "elsewhere").out.splitlines()[-1].endswith("elsewhere/index.html")
    assert list((here / ".blueberry" / "checkpoints").iterdir()) == []


def test_train_writes_a_result_and_curves_and_trains_nothing_twice(here, blueberry, drawn):
    done = blueberry("train", "tiny.toml", "optimizer.muon.learning_rate=0.02", "--out", "one", "--json")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert json.loads((here / "one" / "result.json").read_text()) == result
    assert result["recipe"]["optimizer.muon.learning_rate"] == 0.02
    assert (here / "one" / "curves.png").read_bytes().startswith(b"\x89PNG")
    again = json.loads(blueberry("train", "tiny.toml", "optimizer.muon.learning_rate=0.02", "--json").out)
    assert again == result
    assert "validation loss" in blueberry("train", "tiny.toml", "optimizer.muon.learning_rate=0.02").out


def test_dry_run_says_what_it_would_do(here, blueberry):
    document = json.loads(blueberry("train", "tiny.toml", "--dry-run", "--json").out)
    assert document["parameters"]["total"] == document["parameters"]["muon"] + document["parameters"]["adamw"]
    assert document["num_tokens"] == 12 * 2 * 16
    assert document["recipe"]["train"]["updates"] == 12
    text = blueberry("train", "tiny.toml", "train.updates=3", "--dry-run").out
    assert "3 updates of 32 tokens" in text
    assert not (here / ".blueberry").exists()


def test_new_writes_a_study_that_plans(here, blueberry, refusal):
    for kind in ("sweep", "compare"):
        assert blueberry("new", kind, "--base", "tiny.toml").code == 0
        planned = blueberry("plan", f"{kind}.toml", "--no-timing")
        assert planned.code == 0, planned.err
    assert "exists already" in refusal("new", "sweep", "--base", "tiny.toml")
    assert "no such kind" in refusal("new", "sweeep", "--base", "tiny.toml")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "none.toml"], "none.toml: no such file"),
        (["train", "tiny.toml", "optimizer.muon.lrr=1"], 'did you mean "optimizer.muon.learning_rate"?'),
        (["train", "tiny.toml", "train.updates"], "key=value"),
        (["train", "tiny.toml", "seed=1\nfoo=2"], "seed=1 foo=2"),
        (["train", "tiny.toml", "evaluate.tokens=0"], "evaluate.tokens"),
        (["run", "none.toml"], "none.toml: no such file"),
        (["run", "tiny.toml"], "tiny.toml"),
        (["plan", "."], "Is a directory"),
        (["report", "lr.toml"], "no store here"),
        (["status"], "no store here"),
        (["nonsense"], "nonsense"),
        (["run", "lr.toml", "--workers", "0"], "--workers"),
        (["run", "lr.toml", "--wrokers", "2"], "--wrokers"),
        (["run", "lr.toml", "--store", "tiny.toml/inside"], "tiny.toml/inside"),
        (["run"], "study"),
    ],
    ids=" ".join,
)
def test_a_mistake_is_one_line_and_exit_code_2(refusal, words, said):
    assert said in refusal(*words)


def test_a_mistake_in_a_study_names_the_place(here, refusal):
    (here / "bad.toml").write_text(STUDY.replace("learning_rate", "lrr"))
    assert refusal("run", "bad.toml").startswith('bad.toml [vary] "optimizer.muon.lrr": no such setting; did you mean')


def test_an_empty_store_option_is_the_default_store(here, blueberry):
    assert blueberry("train", "tiny.toml", "--store", "", "--quiet").code == 0
    assert (here / ".blueberry" / "store.sqlite").is_file()
    assert not (here / "store.sqlite").exists()


def test_huge_values_are_refused_at_once(refusal):
    for setting in ("train.updates=1000000000", "train.tokens=9999999999999", "model.width=99999999999999999999999"):
        assert setting.partition("=")[0] in refusal("train", "tiny.toml", setting, "--dry-run")


def test_no_command_shows_the_help(here, blueberry):
    done = blueberry()
    assert "Commands:" in done.out + done.err
    assert done.code == 2
