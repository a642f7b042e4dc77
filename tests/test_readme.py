"""What the README says works: its commands are run, by a trainer that computes in microseconds."""

import re
import subprocess
import tomllib
from pathlib import Path

from tests.test_cli import RECIPE

REPOSITORY = Path(__file__).parent.parent
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)
    return [text for named, text in fenced if named == language]


def test_the_commands_and_the_python_lines_run(command, pretended, capsys):
    study = blocks("toml")[0]
    shown = '"moe-nano"'
    assert shown in study
    Path("tiny.toml").write_text(RECIPE)
    Path("lr.toml").write_text(study.replace(shown, '"tiny.toml"'))
    commands = [
        line.partition("#")[0].split()[1:]
        for block in blocks("")
        for line in block.splitlines()
        if line.startswith(".venv/bin/blueberry")
    ]
    assert [words[0] for words in commands] == ["plan", "run"]
    for words in commands:
        done = command(*words)
        # Some rates diverge, which may block: the README promises a report.
        assert done.code in ((0,) if words[0] == "plan" else (0, 1)), done.err
    report = Path("reports") / "lr"
    assert (report / "index.html").is_file()
    exec(blocks("python")[0], {})
    assert capsys.readouterr().out.strip() in (report / "report.md").read_text()


def test_every_command_is_listed_and_no_other():
    told = set(re.findall(r"^\| `blueberry (\w+)", README, flags=re.MULTILINE))
    from blueberry.cli import app

    assert told == {command.callback.__name__ for command in app.registered_commands}


def test_pictures_and_pages_that_it_links_exist():
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert (REPOSITORY / link).is_file(), link


def test_make_knows_its_targets():
    assert subprocess.run(["make", "-n", "demo", "test", "lint"], cwd=REPOSITORY, capture_output=True).returncode == 0


def test_whatever_says_pip_install_names_this_distribution_and_an_extra_it_has() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pages = [README, *(path.read_text(encoding="utf-8") for path in (REPOSITORY / "docs").glob("*.md"))]
    modules = [path.read_text(encoding="utf-8") for path in (REPOSITORY / "src").rglob("*.py")]
    named = re.findall(r"""pip install ["']?([\w-]+)\[([\w,{}]+)\]""", "\n".join([*pages, *modules]))
    assert named
    assert {name for name, _ in named} == {project["name"]}
    extras = {extra for _, some in named for extra in some.split(",") if "{" not in extra}
    assert extras <= project["optional-dependencies"].keys()
