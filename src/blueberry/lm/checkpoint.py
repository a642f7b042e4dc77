"""The state of one run between two updates, on disk: written whole or not at all, checked before it is believed.

A checkpoint is `DIR/FINGERPRINT/update-000150.DIGEST.safetensors`: tensors of one lane, and what was recorded so
far as JSON in the header. The digest in the name is that of the file's bytes, so a torn or altered file is
recognised and the one before it is used. The two newest are kept.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from blueberry.errors import StoreError
from blueberry.files import refused_as, sweep, write_whole
from blueberry.identity import digest

NUM_KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """One lane after `update` updates."""

    update: int
    tensors: dict[str, Tensor]
    """Weights and moments of this lane, without the lane axis."""
    recorded: dict[str, Any]
    """What was measured so far, as plain JSON."""


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints below one folder. `build` names what computes: another build's are not continued."""

    folder: Path
    build: str

    def save(self, fingerprint: str, checkpoint: Checkpoint) -> None:
        """Write, sync and rename; then drop all but the two newest.

        Raises: StoreError if the disk refuses.
        """
        header = {"recorded": json.dumps(checkpoint.recorded), "build": self.build, "update": str(checkpoint.update)}
        data = save_tensors(checkpoint.tensors, header)
        folder = self.folder / fingerprint
        path = folder / f"update-{checkpoint.update:06d}.{digest(data)}.safetensors"
        remedy = "a run must be able to save its state; free space there or choose another --store"
        with refused_as(StoreError, folder, "cannot write a checkpoint", remedy):
            sweep(folder)
            write_whole(path, data)
            for old in self._newest_first(fingerprint)[NUM_KEPT:]:
                old.unlink(missing_ok=True)

    def updates(self, fingerprint: str) -> list[int]:
        """The updates after which a checkpoint lies there, newest first; not yet verified."""
        return [_update_of(path) for path in self._newest_first(fingerprint)]

    def load(self, fingerprint: str, update: int) -> Checkpoint | None:
        """The checkpoint after `update`, or None if it is damaged, gone or another build's."""
        for path in self._newest_first(fingerprint):
            if _update_of(path) == update:
                try:
                    data = path.read_bytes()
                except OSError:
                    continue
                if digest(data) != path.name.split(".")[1]:
                    continue
                header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
                if header["build"] == self.build:
                    return Checkpoint(update, load_tensors(data), json.loads(header["recorded"]))
        return None

    def _newest_first(self, fingerprint: str) -> list[Path]:
        found = (self.folder / fingerprint).glob("update-*.safetensors")
        return sorted(found, key=lambda path: (_update_of(path), path.name), reverse=True)


def _update_of(path: Path) -> int:
    return int(path.name.removeprefix("update-").partition(".")[0])
