"""docs/judge.md: its table, its commands and what they print."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from blueberry.cli import app
from blueberry.cli.tables import CODES
from blueberry.stats.loop import LEAST_BASELINE, MOST_RUNS, error_of_change, kept_by_chance

PAGE = (Path(__file__).parent.parent / "docs" / "judge.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("results.tsv").write_text(next(text for language, text in BLOCKS if not language and "\t" in text))
    return tmp_path


def test_the_commands_run(here):
    commands = [text.split()[1:] for language, text in BLOCKS if not language and text.startswith("blueberry judge")]
    assert len(commands) >= 2
    for words in commands:
        done = CliRunner().invoke(app, words, standalone_mode=False)
        assert done.exception is None, words
        assert done.return_value in (*CODES.values(), None)


def test_the_look_back_is_what_is_printed(here):
    printed = CliRunner().invoke(app, ["judge", "results.tsv", "--quiet"], standalone_mode=False).stdout
    assert printed.startswith(next(text for language, text in BLOCKS if language == "text"))


def test_its_numbers():
    told = dict(re.findall(r"^\| (\d) \| (.*?)[ |:]", PAGE, flags=re.MULTILINE))
    assert told["0"] == "keep" and told["1"] == "discard" and told["3"] == "run"  # noqa: PT018
    assert CODES == {"keep": 0, "discard": 1, "run again": 3}
    assert f"{kept_by_chance(100):.1f}" == "4.2"
    assert round(1 / error_of_change(1, 0.05)) == 79
    assert (LEAST_BASELINE, MOST_RUNS) == (4, 16)


def test_every_option_it_names_exists():
    from typer.main import get_command

    command = get_command(app).commands["judge"]  # pyright: ignore[reportAttributeAccessIssue]
    known = {name for parameter in command.params for name in parameter.opts}
    assert set(re.findall(r"--[a-z][a-z-]+", PAGE)) <= known
