"""Where runs are trained on this machine, as its GPUs, cores and the installed torch have it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from study_trainers import Seeing, SeeingBeside, Timed, make_study

from blueberry.recipe import Recipe
from blueberry.study import engine, placement, workers
from blueberry.study.ray_workers import RayCrew, Seat
from blueberry.study.store import Store
from blueberry.study.synthetic import Synthetic
from blueberry.study.workers import Gpu

SMALL = Recipe()
LARGE = Recipe().with_({"model.width": 512, "train.batch_sequences": 512})
TWO_GPUS = "#!/bin/sh\necho '0, GPU-abc, 140000'\necho '1, GPU-cde, 20000'\n"
UNSAID = "#!/bin/sh\necho '0, GPU-abc, [N/A]'\n"
GIB = 2**30
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
        for room in (placement, workers):
            monkeypatch.setattr(room, "usable_cores", lambda: cores)

    return make


@pytest.mark.parametrize(
    ("smi", "torch", "visible", "found"),
    [
        (TWO_GPUS, FOR_CUDA, None, {"0": 140000, "1": 20000}),
        (TWO_GPUS, FOR_CUDA, "1", {"1": 20000}),
        (TWO_GPUS, FOR_CUDA, "GPU-c, GPU-a", {"GPU-c": 20000, "GPU-a": 140000}),
        (TWO_GPUS, FOR_CUDA, "1,-1,0", {"1": 20000}),
        (TWO_GPUS, FOR_CUDA, "0,7,1", {"0": 140000}),
        (TWO_GPUS, FOR_CUDA, "", {}),
        (TWO_GPUS, FOR_CUDA, "MIG-x", {"MIG-x": None}),
        (UNSAID, FOR_CUDA, None, {"0": None}),
        (TWO_GPUS, FOR_CPU, None, {}),
        (TWO_GPUS, None, None, {}),
        ("#!/bin/sh\necho 'no driver'\nexit 9\n", FOR_CUDA, None, {}),
        ("#!/bin/sh\necho 'no driver'\nexit 9\n", FOR_CUDA, "0", {}),
        (None, FOR_CUDA, None, {}),
    ],
)
def test_a_worker_for_each_gpu_that_the_installed_torch_can_use(machine, smi, torch, visible, found) -> None:
    machine(smi, torch, visible)
    placed = placement.placement([SMALL])
    assert {gpu.name: gpu.free_bytes and gpu.free_bytes // 2**20 for gpu in placed.gpus} == found
    assert placed.workers == len(found or range(16))
    assert placement.placement([SMALL], 3).workers == 3


def test_where_every_run_needs_all_cores_there_is_one_worker(machine) -> None:
    machine(None, None)
    assert placement.placement([SMALL, SMALL]).workers == 16
    assert placement.placement([SMALL, LARGE]).workers == 16
    assert placement.placement([LARGE, LARGE]).workers == 1


def test_a_run_of_several_threads_is_trained_beside_none(machine) -> None:
    machine(None, None)
    assert workers.fits_beside(SMALL, [SMALL] * 15)
    assert workers.fits_beside(LARGE, [])
    assert not workers.fits_beside(LARGE, [SMALL])
    assert not workers.fits_beside(SMALL, [LARGE])
    machine(None, None, cores=1)
    assert workers.fits_beside(LARGE, [LARGE]), "each has one thread"


def test_on_ray_a_run_of_several_threads_asks_for_a_node_of_cores(machine) -> None:
    machine(None, None)
    crew = object.__new__(RayCrew)
    crew.gpus, crew.num_workers, crew._cores, crew._tasks = (), 8, 4, {}
    assert crew.fits(LARGE)
    assert crew.fits(SMALL)
    crew._tasks = {1: Seat(None, 4)}
    assert crew.fits(LARGE), "on another node"
    crew._tasks = {1: Seat(None, 4), 2: Seat(None, 1)}
    assert crew.fits(SMALL)
    assert not crew.fits(LARGE)
    crew.gpus = (Gpu("0"),)
    assert crew.fits(LARGE), "one core feeds a GPU"


NANO = {
    "model.width": 128, "model.num_layers": 4, "data.vocabulary_tokens": 2048, "train.batch_sequences": 16,
    "train.micro_batch_sequences": 16, "model.context_tokens": 128,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "num_runs", "free", "workers", "lanes"),
    [
        (NANO, 1024, 140, 1, 64),
        ({**NANO, "model.width": 64}, 1024, 140, 1, 64),
        (NANO, 1024, None, 1, 64),
        (NANO, 1000, 1, 1, 4),
        (NANO, 1000, 8, 1, 32),
        (NANO, 1000, 0.001, 1, 1),
        (NANO, 33, 140, 1, 33),
        (NANO, 33, 140, 2, 17),
        (NANO, 33, 140, 8, 5),
        (NANO, 3, 140, 8, 1),
        (NANO, 1000, 140, 4, 32),
        (NANO, 1000, 8, 4, 16),
        ({**NANO, "train.batch_sequences": 128, "train.micro_batch_sequences": 128}, 1000, 140, 1, 8),
        ({**NANO, "train.batch_sequences": 128}, 1000, 140, 1, 63),
        ({"model.width": 1024, "train.batch_sequences": 512}, 1000, 140, 1, 1),
    ],
)
def test_lanes_are_as_many_as_keep_a_gpu_busy_and_fit_it(changes, num_runs, free, workers, lanes) -> None:
    gpus = [Gpu("0", 999 * GIB), Gpu("1", None if free is None else int(free * GIB))]
    assert placement.lanes_for(SMALL.with_(changes), num_runs, gpus, workers) == lanes
    assert placement.lanes_for(SMALL.with_(changes), num_runs, (), workers) == 1


@pytest.mark.parametrize(
    ("changes", "num_runs", "workers", "lanes"),
    [
        ({}, 1, 2, 1),
        ({}, 5, 2, 3),
        ({}, 8, 2, 4),
        ({}, 9, 2, 3),  # four groups, two a worker, not three of which one worker has two
        ({}, 13, 2, 4),
        ({}, 1000, 1, 4),
        ({"train.batch_sequences": 32}, 13, 2, 1),  # no longer small
        ({"train.batch_sequences": 32, "train.micro_batch_sequences": 16}, 13, 2, 4),
        ({"model.width": 48}, 13, 2, 4),
        ({"model.width": 72}, 13, 2, 1),  # lanes would be other numbers
        ({"model.context_tokens": 63, "train.batch_sequences": 5}, 13, 2, 1),
    ],
)
def test_small_runs_train_side_by_side_on_a_cpu(changes, num_runs, workers, lanes) -> None:
    nano = Recipe.load("moe-nano").with_(changes)
    assert placement.lanes_for(nano, num_runs, (), workers) == lanes


def test_a_study_of_small_and_large_arms_has_the_small_ones_side_by_side(tmp_path, monkeypatch) -> None:
    """Not one worker for all because one arm is large, nor two large ones with all threads each at once."""
    text = f"""
question = "Which width?"
base = "recipe.toml"
[vary]
"model.width" = [64, 128, {LARGE.model.width}]
[seeds]
search = 2
confirm = 0
"""
    study = make_study(tmp_path, text)
    (tmp_path / "seen").mkdir()
    for room in (placement, workers):
        monkeypatch.setattr(room, "usable_cores", lambda: 4)
        monkeypatch.setattr(room, "num_threads", lambda recipe, cores: cores if recipe.model.width == 512 else 1)
    assert placement.placement([arm.recipe for arm in study.arms]).workers == 4
    with Store.open(tmp_path / "store") as store:
        engine.run(
            study, data_digest=Synthetic.data_digest, store=store, trainer=Timed(str(tmp_path / "seen")), workers=2
        )
    spans = [line.read_text().split() for line in (tmp_path / "seen").iterdir()]
    large = [(float(began), float(ended)) for width, began, ended in spans if width == "512"]
    small = [(float(began), float(ended)) for width, began, ended in spans if width != "512"]
    assert len(large) == 2
    for one in large:
        assert not any(one is not other and one[0] < other[1] and other[0] < one[1] for other in (*large, *small))
    assert any(one is not other and one[0] < other[1] and other[0] < one[1] for one in small for other in small)


def test_workers_are_spread_over_the_gpus(tmp_path: Path) -> None:
    (tmp_path / "seen").mkdir()
    with Store.open(tmp_path / "store") as store:
        engine.run(
            make_study(tmp_path), data_digest=Synthetic.data_digest, store=store, trainer=Seeing(str(tmp_path / "seen")),
            workers=2, gpus=(Gpu("3"), Gpu("GPU-b")), lanes=1,
        )  # fmt: skip
    assert {path.read_text() for path in (tmp_path / "seen").iterdir()} == {"3", "GPU-b"}


@pytest.mark.ray
def test_on_ray_a_gpu_has_one_process_for_all_groups_and_its_node_says_how_many_lanes(
    machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    machine(TWO_GPUS, FOR_CUDA)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"), prepend=os.pathsep)
    (tmp_path / "seen").mkdir()
    with Store.open(tmp_path / "store") as store:
        engine.run(
            make_study(tmp_path), data_digest=Synthetic.data_digest, store=store, on="ray", workers=2,
            trainer=SeeingBeside(str(tmp_path / "seen")), gpus=(Gpu("0"), Gpu("1")),
        )  # fmt: skip
    seen = [path.read_text().split() for path in (tmp_path / "seen").iterdir()]
    assert {gpu for _, gpu, _ in seen} == {"0", "1"}
    assert len({process for process, _, _ in seen}) == 2
    assert {int(beside) for *_, beside in seen} <= {5, 1}, "ten runs, two workers"


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
