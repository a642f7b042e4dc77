"""A folder that is written under another name and appears whole, whatever is killed on the way."""

import os
import shutil
import time
from pathlib import Path

PREFIX = ".partial-"
ABANDONED_SECONDS = 3600.0
"""A partial folder older than this was left by a process that was killed."""


def begin(parent: Path, name: str) -> Path:
    """A new folder to write into, apart from those of other processes."""
    path = parent / f"{PREFIX}{name}-{os.getpid()}"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    return path


def finish(written: Path, final: Path) -> None:
    """Give it its name, unless another process was quicker."""
    if final.is_dir():
        shutil.rmtree(written, ignore_errors=True)
    else:
        written.rename(final)


def sweep(parent: Path) -> None:
    """Remove what was abandoned."""
    for path in parent.glob(f"{PREFIX}*"):
        if time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
            shutil.rmtree(path, ignore_errors=True)
