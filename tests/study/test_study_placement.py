"""Where runs are trained on this machine, as its GPUs, cores and the installed torch have it."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from study_trainers import make_study

from blueberry.recipe import Recipe
from blueberry.records import RunResult
from blueberry.study import engine, workers
from blueberry.study.store import Store
from blueberry.study.synthetic import Synthetic

SMALL = Recipe()
LARGE = Recipe().with_({"model.width": 512, "train.batch_sequences": 512})
TWO_GPUS = (
    "#!/bin/sh\necho 'GPU 0: H200 (UUID: GPU-a)'\necho '  MIG 1g (UUID: MIG-b)'\necho 'GPU 1: H200 (UUID: GPU-c)'\n"
)
FOR_CUDA = "cuda: Optional[str] = '12.8'\n"
FOR_CPU = "__version__ = '2.13.0+cpu'\ncuda: Optional[str] = None\n"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def make(smi: str | None, torch: str | None, visible: str | None = None, cores: int = 16) -> None:
        for name, text in (
            ("bin/nvidia-smi", smi),
            ("site/torch/version.py", torch),
            ("site/torch/__init__.py", "1/0"),
        ):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if text is not None:
                path.write_text(text)
                path.chmod(0o700)
        monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=None)
        monkeypatch.syspath_prepend(str(tmp_path / "site"))
        monkeypatch.delitem(sys.modules, "torch", raising=False)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        monkeypatch.setattr(engine, "usable_cores", lambda: cores)

    return make


@pytest.mark.parametrize(
    ("smi", "torch", "visible", "devices"),
    [
        (TWO_GPUS, FOR_CUDA, None, ("0", "1")),
        (TWO_GPUS, FOR_CUDA, "1", ("1",)),
        (TWO_GPUS, FOR_CUDA, "GPU-c, GPU-a", ("GPU-c", "GPU-a")),
        (TWO_GPUS, FOR_CUDA, "1,-1,0", ("1",)),
        (TWO_GPUS, FOR_CUDA, "", ()),
        (TWO_GPUS, FOR_CPU, None, ()),
        (TWO_GPUS, None, None, ()),
        ("#!/bin/sh\necho 'no driver'\nexit 9\n", FOR_CUDA, None, ()),
        (None, FOR_CUDA, None, ()),
    ],
)
def test_a_worker_for_each_gpu_that_the_installed_torch_can_use(machine, smi, torch, visible, devices) -> None:
    machine(smi, torch, visible)
    placed = engine.placement([SMALL])
    assert placed.devices == devices
    assert (placed.workers, placed.lanes) == ((len(devices), 8) if devices else (16, 1))
    assert engine.placement([SMALL], 3).workers == 3


def test_one_large_arm_is_enough_to_need_all_cores(machine) -> None:
    machine(None, None)
    assert engine.placement([SMALL, SMALL]).workers == 16
    assert engine.placement([SMALL, LARGE]).workers == 1


@dataclass(frozen=True)
class Seeing:
    """Notes which GPU its worker sees."""

    folder: str

    def __call__(self, recipes: Sequence[Recipe]) -> Iterator[RunResult]:
        for recipe in recipes:
            result = Synthetic().result(recipe)
            (Path(self.folder) / result.fingerprint).write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "all"))
            assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"  # workers share the machine: none spins while it waits
            yield result


def test_workers_are_spread_over_the_gpus(tmp_path: Path) -> None:
    (tmp_path / "seen").mkdir()
    with Store.open(tmp_path / "store") as store:
        engine.run(
            make_study(tmp_path), data_digest=Synthetic.data_digest, store=store, trainer=Seeing(str(tmp_path / "seen")),
            workers=2, devices=("3", "GPU-b"), lanes=1,
        )  # fmt: skip
    assert {path.read_text() for path in (tmp_path / "seen").iterdir()} == {"3", "GPU-b"}


def test_what_a_killed_driver_left_in_the_temporary_folder_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers.tempfile, "tempdir", str(tmp_path))
    ours = workers.LogFolder("blueberry-workers-")
    code = (
        "import os, sys, tempfile\n"
        "tempfile.tempdir = sys.argv[1]\n"
        "from blueberry.study.workers import LogFolder\n"
        "made = LogFolder('blueberry-workers-')\n"
        "(made.path / 'worker-1.log').write_text('x')\n"
        "os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)]).returncode == -9
    assert len(list(tmp_path.iterdir())) == 2
    again = workers.LogFolder("blueberry-workers-")
    assert set(tmp_path.iterdir()) == {ours.path, again.path}, "not those of whoever lives"
    ours.cleanup()
    again.cleanup()
    again.cleanup()
    assert list(tmp_path.iterdir()) == []
