"""What names say: a build or a device, how long a run was or how much was measured, a seed, or none of these."""

import pytest

import blueberry
from blueberry.tables.columns import build_of, kind_by_name
from blueberry.tables.progress import says_the_batch
from blueberry.tables.reading import table_of
from blueberry.tables.roles import kinds
from blueberry.tables.runs import table_runs

LOSSES = {"base": (3.301, 3.302, 3.303), "new": (3.281, 3.283, 3.282)}


def runs(**more):
    """Two arms on three seeds. `more`: column -> its value in the two arms, or function of arm and seed."""
    rows = []
    for number, (arm, losses) in enumerate(LOSSES.items()):
        for seed, loss in enumerate(losses):
            said = {name: one(arm, seed) if callable(one) else one[number] for name, one in more.items()}
            rows.append({"optimizer": arm, "seed": seed, **said, "val_loss": loss})
    return rows


def blocks(rows):
    return {one.audit: one.message for one in blueberry.analyse(rows, vary="optimizer", min_effect=0.001).blocks}


@pytest.mark.parametrize(
    "name", ["gpu", "device", "gpu_type", "config.gpu_name", "accelerator", "Hardware", "device name"]
)
def test_a_device_that_tells_arms_apart_is_drift(name) -> None:
    found = blocks(runs(**{name: ("A100", "H100")}))
    assert found.keys() == {"drift"}
    assert "A100 in base" in found["drift"]


@pytest.mark.parametrize("name", ["code_version", "torch_version", "git_sha", "commit", "driver version"])
def test_a_build_that_tells_arms_apart_is_drift(name) -> None:
    assert blocks(runs(**{name: ("a1b2c3d", "b2c3d4e")})).keys() == {"drift"}


@pytest.mark.parametrize(
    "more",
    [
        {"gpu": lambda arm, seed: ("A100", "H100")[seed % 2]},
        {"device": ("cuda:0", "cuda:1")},
        {"gpu": (0, 1)},
        {"num_gpus": (8, 8), "gpu": ("A100", "A100")},
        {"commit": lambda arm, seed: f"a1b2c{seed}{arm}"},
        {"host": ("node1", "node2")},
    ],
)
def test_devices_that_arms_share_and_names_of_runs_are_none(more) -> None:
    assert not blocks(runs(**more))


@pytest.mark.parametrize("name", ["num_gpus", "gpu_hours", "gpu_memory", "version", "optimizer", "seed", "model_name"])
def test_no_build(name) -> None:
    assert build_of(name) is None


@pytest.mark.parametrize(
    "name",
    ["warmup_iters", "warmdown_iters", "warm_up_steps", "lr_decay_iters", "anneal_steps", "val_every_steps",
     "save_steps", "logging_steps", "eval_iters", "val_tokens", "bsz_tokens", "stable_steps", "test_samples"],
)  # fmt: skip
def test_no_length(name) -> None:
    assert kind_by_name(name) != "length"


@pytest.mark.parametrize("name", ["num_iterations", "max_steps", "train_tokens_B", "global_step", "epochs"])
def test_lengths_stay(name) -> None:
    assert kind_by_name(name) == "length"


def test_tokens_are_made_of_the_updates_that_were_trained() -> None:
    more = {"warmdown_iters": (1450, 1450), "num_iterations": (5100, 5100), "batch_size": (512, 512)}
    for columns in (more, {"lr_decay_iters": (500, 500), **more, "cooldown_iters": (9, 9)}):
        notes = " ".join(table_runs(table_of(runs(**columns)), ["optimizer"]).notes)
        assert "batch_size x num_iterations" in notes


def test_a_batch_in_tokens_is_a_batch() -> None:
    assert says_the_batch("bsz_tokens")
    assert blocks(runs(bsz_tokens=(65_536, 32_768))).keys() == {"confounded"}


@pytest.mark.parametrize("name", ["val_tokens", "eval_iters", "eval_tokens", "config.val_batches"])
def test_more_text_to_be_measured_on_is_another_set(name) -> None:
    assert blocks(runs(**{name: (1_000_000, 2_000_000)})).keys() == {"eval-set"}


def test_what_came_out_on_a_seed_is_no_seed() -> None:
    worst = [None, -0.0259, -0.0344]
    assert kinds({"worst seed": worst, "data_seed": [1, 2, 3]}) == {"worst seed": "result", "data_seed": "seed"}
    rows = [{"optimizer": name, "val_loss": 6.6, "paired \u0394": one, "worst seed": one} for name, one in
            zip("abc", worst, strict=True)]  # fmt: skip
    assert blueberry.analyse(rows, vary="optimizer").blocks[0].audit != "confounded"
