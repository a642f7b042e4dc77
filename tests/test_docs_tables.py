"""docs/tables.md against the code: columns, their other names, endings, and its examples."""

import re
from pathlib import Path

import pytest

import blueberry
from blueberry.sinks import SINKS
from blueberry.tables.columns import MEANINGS, OTHER_NAMES, SAME_SETTING
from blueberry.tables.progress import ENDINGS

PAGE = (Path(__file__).parent.parent / "docs" / "tables.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]


def rows(title: str) -> list[list[str]]:
    lines = [line for line in section(title).splitlines() if line.startswith("| ")][1:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_every_column_and_each_of_its_names_is_told_and_no_other():
    told = {cells[0].strip("`"): set(re.findall(r"`([^`]+)`", cells[2])) for cells in rows("Columns")}
    assert told == {name: set(OTHER_NAMES[name]) - {"last_of_train_losses"} for name in MEANINGS}
    assert [cells[1] for cells in rows("Columns")] == list(MEANINGS.values())


def test_every_ending_is_told_and_no_other():
    told = {word: cells[1] for cells in rows("Endings") for word in re.findall(r"`([^`]+)`", cells[0])}
    assert told == {word: ending for word, ending in ENDINGS.items() if word not in ("0", "1")}


def test_names_of_one_setting_are_told():
    for names in SAME_SETTING:
        assert all(f"`{name}`" in section("Columns") for name in names)


def test_every_sink_is_told():
    assert set(re.findall(r"`[^`]*--log (\w+)`", PAGE)) == set(SINKS)


def test_the_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
    Path("runs.csv").write_text(next(text for language, text in fenced if not language and "seed" in text))
    (code,) = (text for language, text in fenced if language == "python")
    names: dict[str, object] = {}
    exec(code, names)
    assert isinstance(names["judgement"], blueberry.Judgement)
    judged = blueberry.analyse("runs.csv", vary="learning_rate")
    assert [(arm.arm, arm.n) for arm in judged.arms] == [("learning_rate=0.01", 2), ("learning_rate=0.03", 1)]
    assert any("crashed" in audit.message for audit in judged.audits)


def test_the_tables_of_parts_say_what_the_page_says(tmp_path):
    told = PAGE.partition("### Three tables of parts\n")[2].partition("\n## ")[0]
    tables = re.findall(r"^```\n(.*?)^```$", told, flags=re.DOTALL | re.MULTILINE)
    said = [
        " ".join(line.strip("> ") for line in some.splitlines()) for some in re.findall(r"(?:^> .*\n)+", told, re.M)
    ]
    commands = re.findall(r"`blueberry analyse (\S+) --vary (\S+)(?: --(across|tune) (\S+))?`", told)
    assert len(tables) == len(said) == len(commands) == 3
    for text, words, (name, vary, option, columns) in zip(tables, said, commands, strict=True):
        (tmp_path / name).write_text(text)
        more = {option: columns.split(",")} if option else {}
        found = blueberry.analyse(tmp_path / name, vary=vary, **more)
        assert words in f"{found.known} {found.unknown}"
    found = blueberry.analyse(tmp_path / "activations.csv", vary="activation", across=["norm", "heads"])
    assert found.blocks == ()


@pytest.mark.parametrize("word", ["--vary", "--across", "--tune", "--metric", "--min-effect", "--out", "--json"])
def test_every_option_it_names_exists(word):
    from typer.main import get_command

    from blueberry.cli import app

    command = get_command(app).commands["analyse"]  # pyright: ignore[reportAttributeAccessIssue]
    assert word in {name for parameter in command.params for name in parameter.opts}
    assert word in PAGE


def test_each_form_is_read_as_it_comes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = section("Each form, as it comes")
    for name, text in re.findall(r"^```text (\S+)\n(.*?)^```$", shown, flags=re.DOTALL | re.MULTILINE):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    commands = re.findall(
        r"^`blueberry analyse (\S+) --vary (\w+)(?: --(goal|name-pattern) (?:\"([^\"]+)\"|(\w+)))?`$", shown, flags=re.M
    )
    read = {
        path: blueberry.analyse(path, vary=vary, **({} if not option else {option.replace("-", "_"): text or word}))
        for path, vary, option, text, word in commands
    }
    assert {path: [(arm.arm, arm.n) for arm in judged.arms] for path, judged in read.items()} == {
        "results.tsv": [("383abb4", 1), ("c67ad2a", 1), ("909dd59", 1), ("5e82390", 0)],
        "page.csv": [("lr=0.01", 1), ("lr=0.03", 1)],
        "chart.csv": [("lr=0.01", 1), ("lr=0.03", 1)],
        "trials.csv": [("lr=0.0002", 1), ("lr=0.0008", 1), ("lr=0.05", 0)],
        "lightning_logs": [("lr=0.001", 1), ("lr=0.003", 1)],
        "matrix.md": [("lr=0.01", 3), ("lr=0.03", 2)],
        "names.csv": [("lr=0.001", 2), ("lr=0.003", 2)],
    }
    assert read["matrix.md"].metric == read["names.csv"].metric == "val_loss"
