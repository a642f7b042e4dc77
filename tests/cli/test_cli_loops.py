"""`blueberry judge`: exit codes that a loop's script acts on, one line for a person, one document for a program."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from blueberry.__main__ import UsageError
from blueberry.cli import app
from blueberry.errors import BlueberryError, TableError

HEAD = "commit\tval_bpb\tmemory_gb\tstatus\tdescription\n"
LOOP = HEAD + "".join(
    f"{commit}\t{value:.5f}\t20.1\t{status}\t{said}\n"
    for commit, value, status, said in [
        ("5e82390", 1.00120, "keep", "baseline"),
        ("a1b2c3d", 0.99910, "keep", "rate 0.02 to 0.03"),
        ("b2c3d4e", 1.00340, "discard", "wider"),
        ("c3d4e5f", 0.00000, "crash", "tied head"),
        ("d4e5f60", 0.99880, "keep", "seed 43"),
        ("e5f6071", 0.99900, "discard", "warmup"),
    ]
)
REPEATED = LOOP + "".join(
    f"{commit}\t{value:.5f}\t20.1\tkeep\tagain\n"
    for commit, value in zip(["5e82390", "a1b2c3d"] * 3, [1.0015, 0.9989, 1.0009, 0.9994, 1.0011, 0.9990], strict=True)
)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "results.tsv"
    path.write_text(LOOP)
    return path


def asked(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["judge", *map(str, words), "--quiet"], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.return_value or 0, done.stdout


def test_exit_codes(table):
    first, second = ("--baseline", "5e82390"), ("--candidate", "a1b2c3d")
    code, said = asked(table, *first, *second)
    assert code == 3
    assert "3 more of 5e82390" in said
    assert said.count("\n") == 1
    code, said = asked(table, *first, *second, "--sigma", "0.0003")
    assert code == 0
    assert said.startswith("keep a1b2c3d: -0.00210")
    assert "borrowed" in said
    code, said = asked(table, "--baseline", "a1b2c3d", "--candidate", "b2c3d4e")
    assert code == 1
    assert said.startswith("discard b2c3d4e: not better")
    code, said = asked(table, *first, "--candidate", "c3d4e5f")
    assert code == 1
    assert "crashed" in said
    table.write_text(REPEATED)
    code, said = asked(table, *first, *second)
    assert code == 0
    assert "borrowed" not in said
    assert "5 degrees of freedom" in said


def test_arms_may_be_told_apart_by_settings_that_stand_in_names(tmp_path):
    table = tmp_path / "runs.csv"
    losses = {"0.01": (3.412, 3.405, 3.408, 3.410), "0.02": (3.377, 3.371, 3.374, 3.379)}
    rows = [f"lr{lr}-s{seed},{loss}\n" for lr, some in losses.items() for seed, loss in enumerate(some)]
    table.write_text("run,val_loss\n" + "".join(rows))
    names = ("--name-pattern", "lr{lr}-s{seed}")
    for told in (("--vary", "lr"), ()):
        code, said = asked(table, "--baseline", "lr=0.01", "--candidate", "lr=0.02", *names, *told)
        assert code == 0
        assert said.startswith("keep lr=0.02: -0.03433")
        assert "3 paired seeds" in said
    with pytest.raises(TableError, match="no run of that name"):
        asked(table, "--baseline", "lr=0.01", "--candidate", "lr=0.03", *names)


def test_noise_that_explains_a_gain_is_no_keep(table):
    code, said = asked(table, "--baseline", "5e82390", "--candidate", "a1b2c3d", "--sigma", "0.0013")
    assert code == 3
    assert "more of a1b2c3d" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--baseline", "5e82390"), "without --candidate"),
        (("--baseline", "5e82390", "--candidate", "5e82390"), "another arm"),
        (("--baseline", "nothing", "--candidate", "a1b2c3d"), "no run of that name"),
        (("--baseline", "c3d4e5f", "--candidate", "a1b2c3d"), "with a number"),
        (("--metric", "status"), "number"),
        (("--sigma", "-1"), "sigma"),
    ],
)
def test_mistakes_are_one_line(table, words, said):
    with pytest.raises((BlueberryError, UsageError), match=said) as raised:
        asked(table, *words)
    assert "\n" not in str(raised.value)


def test_the_document(table):
    table.write_text(REPEATED)
    code, text = asked(table, "--baseline", "5e82390", "--candidate", "a1b2c3d", "--json")
    document = json.loads(text)
    assert code == 0
    assert document["decision"] == "keep"
    assert document["sigma"] == "measured"
    assert document["interval"][1] < 0
    assert document["n"] == [4, 3]
    assert document["paired"] is False
    document = json.loads(asked(table, "--baseline", "a1b2c3d", "--candidate", "d4e5f60", "--json")[1])
    assert document["decision"] == "run again"
    assert sum(document["run_again"].values()) > 0


def test_a_look_back_without_any_option(table):
    code, said = asked(table)
    assert code == 0
    assert "2 kept, 2 discarded, 1 without a number" in said
    assert "0.00021 with 1 degree of freedom, from d4e5f60, by the description a repeat" in said
    assert "0 of 2 kept" in said
    assert "run again first" in said
    assert "repeats: 0 of 5 runs" in said
    document = json.loads(asked(table, "--json")[1])
    assert document["stand"] == []
    assert document["noise"]["kind"] == "described"
    assert 0.9 < document["expected_null"] <= 2
    assert -0.0024 < document["expected"] < 0
    assert [one["baseline"] for one in document["changes"]] == ["5e82390", "a1b2c3d", "a1b2c3d", "d4e5f60"]


def test_a_look_back_over_repeats(table):
    table.write_text(REPEATED)
    document = json.loads(asked(table, "--json")[1])
    assert document["noise"]["kind"] == "measured"
    assert document["repeats"] == 6
    assert document["stand"] == ["a1b2c3d"]


def test_more_may_be_better(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text(
        "name,accuracy\n" + "".join(f"a,{v}\n" for v in (0.70, 0.71, 0.70, 0.705)) + "b,0.80\nb,0.81\nc,0.6\n"
    )
    with pytest.raises(TableError, match="maximize"):
        asked(path, "--metric", "accuracy", "--baseline", "a", "--candidate", "b")
    code, said = asked(path, "--metric", "accuracy", "--goal", "maximize", "--baseline", "a", "--candidate", "b")
    assert code == 0
    assert "+0.1" in said
    code, _ = asked(path, "--metric", "accuracy", "--goal", "maximize", "--baseline", "b", "--candidate", "c")
    assert code == 1


def test_arms_are_found_by_the_beginning_of_a_commit_a_pattern_or_several_as_one(table):
    assert asked(table, "--baseline", "5e82", "--candidate", "a1b2", "--sigma", "0.0003")[0] == 0
    document = json.loads(asked(table, "--baseline", "5e82390", "--candidate", "a1b2c3d,d4e5f60", "--json")[1])
    assert document["n"] == [1, 2]
    assert document["position"] == 1
    assert asked(table, "--baseline", "baseline", "--candidate", "wider")[0] == 1  # by their descriptions


def test_a_table_of_settings_has_arms_by_their_settings(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text(
        "lr,seed,val_loss\n" + "".join(f"{lr},{s},{3 + lr + 0.01 * s}\n" for lr in (0.1, 0.2) for s in range(4))
    )
    code, said = asked(path, "--baseline", "lr=0.2", "--candidate", "lr=0.1")
    assert code in (0, 3)
    assert "4 paired seeds" in said


def test_a_diverged_candidate_is_discarded(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("name,val_loss\na,3.1\na,3.2\nb,2.0\nb,nan\n")
    code, said = asked(path, "--baseline", "a", "--candidate", "b")
    assert code == 1
    assert "diverged" in said


def test_a_block_for_a_pull_request(table):
    table.write_text(REPEATED)
    code, said = asked(table, "--baseline", "5e82390", "--candidate", "a1b2c3d", "--markdown")
    assert code == 0
    assert said.startswith("**keep a1b2c3d: -0.00")
    assert "| 5e82390 | 4 | 1.0011" in said
    for word in ("unpaired", "| runs | mean | sd | interval |", "5 degrees of freedom", "0.05 at most"):
        assert word in said
    assert "| d4e5f60: seed 43 | kept | a1b2c3d | -0.0003" in asked(table, "--markdown")[1]


def test_a_page(table, tmp_path):
    table.write_text(REPEATED.replace("wider", "<b>wider</b>"))
    code, said = asked(table, "--out", tmp_path / "page")
    assert code == 0
    assert said.endswith("index.html\n")
    page = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    assert "<svg" in page and "2 kept, 2 discarded" in page and "var(--accent)" in page  # noqa: PT018
    assert "&lt;b&gt;wider" in page
    assert "<script" not in page
    assert json.loads((tmp_path / "page" / "judge.json").read_text())["kept"] == 2
    assert asked(table, "--baseline", "5e82390", "--candidate", "a1b2c3d", "--out", tmp_path / "one")[0] == 0
    assert "| difference |" in (tmp_path / "one" / "judge.md").read_text()


def test_noise_that_is_no_longer_than_its_store(tmp_path):
    with pytest.raises(BlueberryError, match="store"):
        asked_noise(tmp_path / "nothing")


def asked_noise(store: Path) -> str:
    done = CliRunner().invoke(app, ["noise", "--store", str(store)], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.stdout


@pytest.mark.parametrize(
    ("column", "words"),
    [("status", ("keep", "discard")), ("decision", ("accepted", "rejected")), ("kept", ("yes", "no"))],
)
def test_what_was_kept_stands_in_a_column_whatever_it_is_called(tmp_path, column, words):
    path = tmp_path / "log.jsonl"
    values = {"base": 1.010, "e1": 1.012, "e2": 1.008, "e3": 1.011}
    rows = [
        {"experiment": name, "val_loss": value, column: words[name in ("e2", "e3")]} for name, value in values.items()
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    document = json.loads(asked(path, "--json")[1])
    assert [one["arm"] for one in document["changes"] if one["kept"]] == ["e1"]  # not the lower: the column says so
    assert [one["baseline"] for one in document["changes"]] == ["base", "e1", "e1"]


def test_borrowed_noise_that_the_table_itself_contradicts_is_said(table):
    table.write_text(REPEATED)
    words = ["judge", str(table), "--baseline", "5e82390", "--candidate", "a1b2c3d", "--sigma"]
    said = CliRunner().invoke(app, [*words, "0.00003"], standalone_mode=False).stderr
    assert "repeats in the table spread by 0.000234 with 6 degrees of freedom, more than the borrowed 0.000030" in said
    assert "spread" not in CliRunner().invoke(app, [*words, "0.0003"], standalone_mode=False).stderr
    tiny = CliRunner().invoke(app, [*words, "1e-300"], standalone_mode=False)
    assert (tiny.exception, "repeats in the table spread" in tiny.stderr) == (None, True)
