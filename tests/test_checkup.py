"""The doctor from the command line: studies before and after they ran, tables, reports."""

import json
import random
from pathlib import Path

import pytest
from typer.testing import CliRunner

import blueberry
from blueberry import api
from blueberry.analysis import checkup as examine
from blueberry.cli import app
from blueberry.errors import BlueberryError
from blueberry.recipe import Recipe
from blueberry.study.spec import Study
from blueberry.study.synthetic import Synthetic
from blueberry.text.windows import overlap
from tests.golden.reports import CLEAN
from tests.test_cli import RECIPE

STUDY = """
question = "Which rate?"
base = "base.toml"
min_effect = 0.02
[vary]
"optimizer.muon.learning_rate" = { log = [0.004, 0.25], points = 7 }
[set]
"train.updates" = 60
"data.corpus" = "synthetic"
"data.tokenizer" = "byte"
"data.max_tokens" = 600_000
[seeds]
search = {search}
confirm = 2
""".replace("{ log", "{{ log").replace("7 }", "7 }}")


def answer(*arguments):
    done = CliRunner().invoke(app, ["doctor", *map(str, arguments)], standalone_mode=False)
    return done.return_value, done.stdout


@pytest.fixture
def study(tmp_path):
    (tmp_path / "base.toml").write_text(Recipe().to_toml())

    def write(search=3):
        (tmp_path / "lr.toml").write_text(STUDY.format(search=search))
        return tmp_path / "lr.toml"

    return write


def test_a_sound_study_is_quiet_before_it_runs(study, tmp_path):
    code, said = answer(study(), "--store", tmp_path / "none")
    assert (code, said) == (0, "nothing found\n")
    assert not (tmp_path / "none").exists()
    code, said = answer(study(), "--json", "--store", tmp_path / "none")
    assert (code, json.loads(said)) == (0, {"audits": []})


def test_a_design_that_cannot_answer_is_blocked(study, tmp_path):
    code, said = answer(study(search=1), "--json", "--store", tmp_path / "none")
    assert code == 1
    (finding,) = json.loads(said)["audits"]
    assert set(finding) == {"audit", "severity", "message", "remedy"}
    assert finding["audit"] == "seeds"
    code, said = answer(study(search=1), "--store", tmp_path / "none")
    assert said.startswith("block  seeds: ")
    assert "1 block a claim, 0 warn" in said


def test_a_study_that_ran_is_audited_with_its_runs(study, tmp_path):
    path, store = study(), tmp_path / "store"
    honest = api.conduct(Study.load(path), store=store, trainer=_OwnText(), workers=0)
    assert honest.judgement.audits == ()
    assert examine([path], store=store).audits == ()
    worse = tmp_path / "worse"
    api.conduct(Study.load(path), store=worse, trainer=_OwnText(optimum=1.0), workers=0)
    assert "edge" in {finding.audit for finding in examine([path], store=worse).audits}


class _OwnText:
    """The synthetic trainer, said to read the recipe's own text, as the built-in one does."""

    def __init__(self, **truth):
        self.synthetic = Synthetic(floor_nats=4.5, **truth)

    def __call__(self, recipes):
        from blueberry.recipe import fingerprint
        from blueberry.text.dataset import data_digest

        for recipe in recipes:
            name = fingerprint(recipe, data_digest(recipe.data, Path("data")))
            yield self.synthetic.result(recipe).model_copy(update={"fingerprint": name})


def test_a_report_and_a_table(tmp_path):
    (tmp_path / "report.md").write_text(CLEAN, encoding="utf-8")
    assert answer(tmp_path / "report.md") == (0, "nothing found\n")
    (tmp_path / "report.md").write_text(CLEAN.replace("43.86", "63.86"), encoding="utf-8")
    code, said = answer(tmp_path / "report.md")
    assert code == 1
    assert "report.md:12: 0.04: exp(loss 3.781) is 43.86, printed 63.86 as perplexity" in said
    (tmp_path / "runs.csv").write_text("lr,seed,val_loss\n0.1,0,3\n0.2,0,3.1\n")
    found = examine([tmp_path / "runs.csv"])
    assert found.is_blocked
    assert {finding.audit for finding in found.audits} == {"seeds", "curse"}
    assert "arms differ in lr" in found.notes[0]
    assert examine([tmp_path / "runs.csv"], vary=["lr"]).notes == ()


def test_a_report_is_a_table_too_when_asked(tmp_path):
    table = "| lr | seed | val loss |\n|---|---|---|\n| 0.1 | 0 | 3.0 |\n| 0.2 | 0 | 3.1 |\n"
    (tmp_path / "runs.md").write_text(table)
    assert "curse" in {finding.audit for finding in examine([tmp_path / "runs.md"], vary=["lr"]).audits}


@pytest.mark.parametrize(
    ("name", "text", "part"),
    [
        ("none.md", None, "no such file"),
        ("none.csv", None, "no such file"),
        ("binary.md", b"\xff\xfe\x00", "not UTF-8"),
        ("same.csv", b"val_loss\n3\n4\n", "differ in no setting"),
    ],
)
def test_mistakes_are_one_line(tmp_path, name, text, part):
    if text is not None:
        (tmp_path / name).write_bytes(text)
    with pytest.raises(BlueberryError, match=part) as raised:
        examine([tmp_path / name])
    assert "\n" not in str(raised.value)


def test_a_report_without_a_number_is_not_called_clean_in_silence(tmp_path):
    (tmp_path / "empty.md").write_text("")
    found = examine([tmp_path / "empty.md"])
    assert found.audits == ()
    what = "no loss, perplexity, bits per byte or accuracy of a run is in it, so there is little to check"
    assert found.notes == (f"empty.md: {what}; --metric names another",)


def test_every_text_that_a_study_trains_on_is_looked_through_for_leaks(tmp_path, monkeypatch):
    """The base recipe's is clean: a passage that stands in every file is one document, kept once. Under the other
    condition a file is a document, and each holds it."""
    monkeypatch.chdir(tmp_path)
    random_ = random.Random(0)
    own, same = (
        [" ".join("".join(random_.choices("abcdefghij", k=6)) for _ in range(300)) for _ in range(count)]
        for count in (60, 1)
    )
    for number, text in enumerate(own):
        (tmp_path / f"{number}.txt").write_text(f"{text}\n{same[0]}")
    files = 'corpus = "files"\nfiles.paths = ["*.txt"]\nfiles.delimiter = "\\n"'
    recipe = RECIPE.replace('corpus = "synthetic"', files)
    (tmp_path / "tiny.toml").write_text(recipe)
    (tmp_path / "which.toml").write_text(
        'question = "How much?"\nbase = "tiny.toml"\n[set]\n"train.updates" = 2\n[seeds]\nsearch = 1\nconfirm = 0\n'
        '[vary]\n"data.max_train_tokens" = [4_000, 20_000]\n[across]\n"data.files.delimiter" = ["\\n", "@@"]\n'
    )
    study = Study.load(tmp_path / "which.toml")
    looked = []
    monkeypatch.setattr(api, "overlap", lambda *given, **more: looked.append(given) or overlap(*given, **more))
    judged = api.run(study, store=tmp_path / "store", workers=0)
    assert len(looked) == 2, "each text once, and of its beginnings the longest, which holds the others"
    assert len([one for one in judged.audits if one.audit == "leak"]) == 1
    assert next(one for one in judged.audits if one.audit == "leak") in api.audits(study, tmp_path / "store")
    assert len(looked) == 2, "and never again"


def test_files_of_one_name_are_told_apart_by_as_much_of_their_paths_as_it_takes(tmp_path):
    wrong = CLEAN.replace("43.86", "63.86")
    for folder, text in (("a/x", wrong), ("b/x", wrong.replace("0.04", "0.05")), ("c", CLEAN)):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "report.md").write_text(text, encoding="utf-8")
        (tmp_path / folder / "runs.csv").write_text(f"lr,seed,val_loss\n0.1,{len(folder)},3\n0.2,0,\n")
    (tmp_path / "only.md").write_text(wrong, encoding="utf-8")
    paths = [tmp_path / name for name in ("a/x/report.md", "b/x/report.md", "c/report.md", "only.md")]
    places = {one.message.partition(":")[0] for one in examine(paths).audits if one.audit == "arithmetic"}
    assert places == {"a/x/report.md", "b/x/report.md", "only.md"}
    tables = examine([tmp_path / "a/x/runs.csv", tmp_path / "c/runs.csv"]).audits
    assert {one.message.partition(":")[0] for one in tables} == {"x/runs.csv", "c/runs.csv"}
    assert all("x/runs.csv" not in one.message for one in examine([tmp_path / "a/x/runs.csv"]).audits)


def test_a_finding_of_a_study_says_of_which(study, tmp_path):
    first = study(search=1)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "base.toml").write_text(Recipe().to_toml())
    second = tmp_path / "other" / "second.toml"
    second.write_text(first.read_text())
    found = examine([first, second], store=tmp_path / "none").audits
    assert [one.message.partition(":")[0] for one in found] == ["lr.toml", "second.toml"]
    twin = (tmp_path / "other" / "lr.toml", first)
    twin[0].write_text(first.read_text())
    found = examine(twin, store=tmp_path / "none").audits
    assert [one.message.partition(":")[0] for one in found] == ["other/lr.toml", f"{tmp_path.name}/lr.toml"]


LOOP = """commit\tval_bpb\tmemory_gb\tstatus\tdescription
5e82390\t1.00120\t20.1\tkeep\tbaseline
a1b2c3d\t0.99910\t20.1\tkeep\trate 0.02 to 0.03
b2c3d4e\t1.00340\t20.1\tdiscard\twider
c3d4e5f\t0.00000\t0.0\tcrash\ttied head
"""
DECIDED = "experiment,lr,depth,val_loss,decision\nbase,0.01,4,3.1,baseline\ndeeper,0.01,6,3.05,kept\nrate,0.02,6,3.2,discarded\n"
FLAGGED = "commit,val_loss,kept\naaaaaa1,3.1,True\naaaaaa2,3.05,True\naaaaaa3,3.2,False\n"


@pytest.mark.parametrize(("name", "text"), [("results.tsv", LOOP), ("tried.csv", DECIDED), ("flags.csv", FLAGGED)])
def test_the_table_of_a_loop_is_for_judge_to_judge(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    (finding,) = examine([path]).audits
    assert (finding.audit, finding.severity) == ("seeds", "block")
    assert "the table of a loop that keeps and discards changes" in finding.message
    assert finding.remedy.endswith(f"blueberry judge {path}")
    code, said = answer(path)
    assert code == 1
    assert "--sigma" not in said
    with pytest.raises(BlueberryError, match=f"the table of a loop .* blueberry judge {path}"):
        blueberry.analyse(path, vary=[])


def test_a_loop_with_repeats_is_judged_and_its_crashes_block_nothing(tmp_path):
    rows = [
        f"{commit},{loss + n / 1e4},keep" for commit, loss in (("aaaaaa1", 3.1), ("aaaaaa2", 3.0)) for n in range(3)
    ]
    (tmp_path / "loop.csv").write_text("\n".join(["commit,val_loss,status", *rows, "aaaaaa3,,crash", "b1,3.2,discard"]))
    assert not examine([tmp_path / "loop.csv"]).is_blocked
