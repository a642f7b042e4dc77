"""python -m bench.trips: which files of the package work on a command, from its words to its answer.

A file counts when one of its functions runs; merely importing it does not. docs/log.md has what was counted when.
"""

import contextlib
import io
import os
import sys
import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

import blueberry
from blueberry import api
from blueberry.__main__ import main
from blueberry.study.spec import Study
from blueberry.study.store import Store
from blueberry.study.synthetic import Synthetic

PACKAGE = str(Path(blueberry.__file__).parent)
RECIPE = """
data.corpus = "synthetic"
data.tokenizer = "byte"
model = { width = 16, num_layers = 1, context_tokens = 16 }
train = { updates = 4, batch_sequences = 2 }
evaluate = { every_updates = 2, tokens = 256 }
"""
STUDY = """
question = "Which rate?"
base = "recipe.toml"
[vary]
"optimizer.muon.learning_rate" = { log = [0.005, 0.32], points = 7 }
[seeds]
search = 3
confirm = 2
"""
TRIPS = {
    "a sweep to its page": "report sweep.toml",
    "a table to its page": "analyse runs.csv --vary learning_rate",
    "a recipe to its result": "train recipe.toml",
    "a study before it runs": "plan sweep.toml",
    "a study to its store": "run sweep.toml --store fresh",
}
ENDS = {"run": "_judge"}
"""Where a trip ends before its command does: `run` judges what it ran. Its workers' trip is that of a recipe."""


class Pretends:
    """The synthetic trainer, as if it had been trained on the recipe's text."""

    def __init__(self, study: Study, store: Path) -> None:
        with Store.open(store) as opened:
            self.digest = api._data_digest(None, opened.data)(study.base)

    def data_digest(self, recipe):
        return self.digest

    def __call__(self, recipes):
        for recipe in recipes:
            named = api.fingerprint(recipe, self.digest)
            yield Synthetic().result(recipe).model_copy(update={"fingerprint": named})


def plant() -> None:
    """A recipe, a sweep whose runs have ended, and a table, in the current folder."""
    Path("recipe.toml").write_text(RECIPE)
    Path("sweep.toml").write_text(STUDY)
    rows = [
        f"{rate},{seed},{3.5 + (rate - 0.02) ** 2 * 40 + seed * 0.002 + (seed * rate) % 0.003:.4f}"
        for rate in (0.005, 0.01, 0.02, 0.04, 0.08)
        for seed in (0, 1, 2)
    ]
    Path("runs.csv").write_text("\n".join(["learning_rate,seed,val_loss", *rows]) + "\n")
    study, store = Study.load(Path("sweep.toml")), Path(".blueberry")
    api.conduct(study, store=store, trainer=Pretends(study, store), workers=0)
    api.look(study, store)  # as the built-in trainer would have left it: its text prepared and looked through


def files_of(command: str) -> list[str]:
    """Names of the files in which a function ran."""
    seen: set[str] = set()
    end, has_ended = ENDS.get(command.split()[0]), False

    def see(frame: FrameType, event: str, _: object) -> None:
        nonlocal has_ended
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE) and not _is_importing(frame):
            has_ended = has_ended or frame.f_code.co_name == end
            if not has_ended:
                seen.add(os.path.relpath(frame.f_code.co_filename, PACKAGE))

    before, sys.argv = sys.argv, ["blueberry", *command.split()]
    sys.setprofile(see)
    threading.setprofile(see)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
            main()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
        sys.argv = before
    return sorted(seen)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGE):
        if frame.f_code.co_name == "<module>":
            return True
        frame = frame.f_back
    return False


if __name__ == "__main__":
    with TemporaryDirectory() as folder, contextlib.chdir(folder):
        plant()
        for name, command in TRIPS.items():
            found = files_of(command)
            print(f"{name} (blueberry {command}): {len(found)} files\n  {' '.join(found)}")
