"""Runs for Weights & Biases: grouped by study, named by arm and seed, the recipe as config.

Offline, unless WANDB_MODE or WANDB_API_KEY says otherwise; `wandb sync FOLDER/wandb/offline-run-*` sends them later.
"""

import os
from pathlib import Path
from typing import Any

from blueberry.files import partial_folder
from blueberry.records import StudyRun
from blueberry.sinks import entries


def open_sink(folder: Path, study: str) -> "WandbSink":
    return WandbSink(Path(os.environ.get("WANDB_DIR") or folder))


class WandbSink:
    """W&B writes into a hidden folder; the run's own folder moves to `wandb/` when it is whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "wandb"
        self._folder.mkdir(parents=True, exist_ok=True)
        online = os.environ.get("WANDB_MODE") or os.environ.get("WANDB_API_KEY")
        self._mode = None if online else "offline"

    def result(self, run: StudyRun) -> None:
        """Write a run, unless its folder is there."""
        if next(self._folder.glob(f"*run-*-{entries.key(run)}"), None) is not None:
            return
        with partial_folder(self._folder.parent) as hidden:
            written = self._write(run, hidden)
            if hidden not in written.parents:  # wandb turns to another folder when it cannot write to this one
                raise OSError(f"{hidden} cannot be written")
            written.rename(self._folder / written.name)

    def close(self) -> None:
        pass

    def _write(self, run: StudyRun, folder: Path) -> Path:
        """The folder that W&B made for it."""
        import wandb  # pyright: ignore[reportMissingImports]

        quiet: Any = wandb.Settings(
            silent=True, console="off", disable_git=True, save_code=False, x_disable_stats=True, x_disable_meta=True
        )
        made: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or "blueberry",
            group=run.study,
            name=entries.title(run),
            id=entries.key(run),
            job_type=run.stage,
            config={**entries.settings(run), **entries.words(run)},
            dir=str(folder),
            mode=self._mode,  # pyright: ignore[reportArgumentType]
            resume=None if self._mode == "offline" else "allow",
            reinit="create_new",
            settings=quiet,
        )
        made.define_metric("*", step_metric="update")
        for update, values in entries.points(run.result):
            made.log({"update": update, **values})
        made.summary.update(entries.totals(run.result))
        written = Path(made.dir).parent
        made.finish(exit_code=0)
        return written
