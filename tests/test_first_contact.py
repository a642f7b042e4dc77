"""What somebody meets first: recipes by name, an empty folder, mistyped words, closed and full outputs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import blueberry
from blueberry.errors import RecipeError
from blueberry.recipe import SHIPPED, Recipe, recipe_path
from blueberry.study.sections import TEMPLATES, write_study_file
from blueberry.study.spec import Study


def cli(*words: str, cwd: Path, shell: str) -> subprocess.CompletedProcess[str]:
    command = f'"$0" -m blueberry "$@" {shell}'
    return subprocess.run(["bash", "-c", command, sys.executable, *words], cwd=cwd, capture_output=True, text=True,
                          env={**os.environ, "NO_COLOR": "1", "PYTHONPATH": str(Path(blueberry.__file__).parents[1])})  # fmt: skip


def test_recipes_are_found_by_name_and_a_path_that_exists_goes_first(tmp_path):
    assert recipe_path("moe-nano") == SHIPPED / "moe-nano.toml"
    assert Recipe.load("moe-nano") == Recipe.load(SHIPPED / "moe-nano.toml")
    (tmp_path / "moe-nano").write_text("seed = 7\n")
    assert Recipe.load("moe-nano", folder=tmp_path).seed == 7
    with pytest.raises(
        RecipeError, match=r'^moe-nan: no such file, and no recipe of that name; did you mean "moe-nano"\?$'
    ):
        Recipe.load("moe-nan")


def test_every_recipe_that_is_shipped_loads():
    names = {path.stem for path in SHIPPED.glob("*.toml")}
    assert names == {
        "moe-nano",
        "moe-small",
        "moe-79m",
        "moe-79m-offline",
        "deepseek-47m",
        "deepseek-47m-offline",
        "mlp-nano",
        "latent-nano",
    }
    assert all(Recipe.load(name) for name in names)


@pytest.mark.parametrize("kind", TEMPLATES)
def test_every_kind_of_study_begins_in_an_empty_folder(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written = write_study_file(kind, "moe-nano", Path("sub.toml"))
    assert 'base       = "moe-nano" ' in written.read_text(encoding="utf-8")
    assert Study.load(written).line == "moe-nano"


def test_overrides_are_part_of_the_recipe_before_it_is_checked(tmp_path):
    (tmp_path / "r.toml").write_text('[data]\ncorpus = "files"\n[schedule]\nwarmup_fraction = 0.2\n')
    made = Recipe.load("r.toml", ["data.files.paths=a.txt", "schedule.warmup_updates=3"], folder=tmp_path)
    assert made.data.files is not None
    assert made.data.files.paths == ("a.txt",)
    assert (made.schedule.warmup_updates, made.schedule.warmup_fraction) == (3, None)
    (tmp_path / "m.toml").write_text("[data.mixture.a]\nweight = 2.0\n[data.mixture.b]\n")
    assert Recipe.load("m.toml", ["data.corpus=mixture"], folder=tmp_path).data.mixture["a"].weight == 2


@pytest.mark.parametrize(
    ("words", "line"),
    [(["model.wdth=3"], 'model.wdth=3: no such setting; did you mean "model.width"?'),
     (["model=3"], "model=3: 3; model is a section; give its settings, each by its name"),
     (["seed=1", "optimizer.muon.lr=1"], 'optimizer.muon.lr=1: no such setting; did you mean "optimizer.muon.learning_rate"?'),
     (["schedule.kind=constant", "schedule.floor_fraction=0.1"], "schedule.floor_fraction=0.1: given beside kind = 'constant'; that kind has no floor_fraction; change the kind or leave it out"),
     (["model.num_heads=3"], "model.num_heads=3: 3; it must divide width = 64; try 2"),
     (["model.width=66"], 'model.width=66: "model.num_heads": 2; rotary positions need an even head size, width / num_heads is 33; change width or num_heads'),
     (["seed=" + "9" * 5000], None)],
)  # fmt: skip
def test_a_mistake_on_the_command_line_is_blamed_on_it(words, line, tmp_path):
    (tmp_path / "r.toml").write_text("")
    with pytest.raises(RecipeError) as refused:
        Recipe.load("r.toml", words, folder=tmp_path)
    assert line is None or str(refused.value) == line
    assert "r.toml" not in str(refused.value)


def test_a_mistake_in_the_file_is_blamed_on_the_file(tmp_path):
    (tmp_path / "r.toml").write_text("[model]\nwdth = 3\n")
    with pytest.raises(RecipeError, match=r'r.toml "model.wdth": no such setting'):
        Recipe.load("r.toml", ["seed=1"], folder=tmp_path)


def test_the_package_lists_what_it_has():
    assert {"Recipe", "Study", "run", "train", "analyse", "__version__"} <= set(dir(blueberry))
    assert all(getattr(blueberry, name) is not None for name in dir(blueberry))


def test_a_newcomer_in_an_empty_folder(command, prepared):
    assert command("--version").out == f"blueberry {blueberry.__version__}\n"
    assert command("new", "sweep").code == 0
    assert "to do at most, 16 if" in command("plan", "sweep.toml", "--no-timing", "--store", prepared).out
    refused = "sweep.toml: exists already; nothing is overwritten; choose another name with -o\n"
    assert command("new", "sweep").err == refused


@pytest.mark.parametrize(
    ("words", "shell", "code"),
    [(["--help"], "> /dev/full", 2), (["train", "moe-nano", "--dry-run"], "> /dev/full", 2),
     (["train", "moe-nano", "--dry-run", "--json"], ">&-", 2), (["--version"], "2>&-", 0)],
)  # fmt: skip
def test_no_output_ends_in_a_traceback(words, shell, code, tmp_path):
    done = cli(*words, cwd=tmp_path, shell=shell)
    assert done.returncode == code
    assert len(done.stderr.splitlines()) == (code != 0)
    assert ("No space left on device; " in done.stderr) == ("full" in shell)


@pytest.mark.parametrize(
    "words",
    [["plan", "s\udcff.toml"], ["train", "x" * 300], ["plan", "a\x1b[31m\u202e.toml"], ["sample", "a", "--seed", "9" * 20],
     ["train", "/dev/zero"]],
)  # fmt: skip
def test_no_name_or_number_ends_in_a_traceback(words, command):
    done = command(*words)
    assert (done.code, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1
    assert "\x1b" not in done.err
    assert "\u202e" not in done.err
