"""One run by several processes: equal to one, but for rounding; the ranks equal to each other to the last bit."""

import json
import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from blueberry.api import train as train_one
from blueberry.errors import RecipeError, TrainerError
from blueberry.lm import update as ranks_module
from blueberry.lm.training import Group
from blueberry.lm.update import Ranks
from blueberry.recipe import Recipe
from tests.lm.conftest import CPU, TINY

NUM_UPDATES = 3
CHANGES = {
    "balance, noise and dropout": {"model.dropout": 0.1, "model.feed_forward.router_noise": 0.1},
    "micro-batches": {"train.micro_batch_sequences": 1, "model.feed_forward.z_weight": 0.01},
    "a selection bias": {"model.feed_forward.kind": "moe-bias-balanced"},
    "no experts": {"model.feed_forward.kind": "mlp", "model.dropout": 0.1},
    "latent attention": {"model.attention.kind": "latent"},
}


@pytest.fixture
def exchange(monkeypatch):
    """Threads in place of processes: every one's tensor is added in the order of the ranks."""
    given: dict[int, torch.Tensor] = {}
    meeting = threading.Barrier(2)

    def all_reduce(tensor: torch.Tensor) -> None:
        given[NUMBER.number] = tensor.clone()
        meeting.wait(60)
        total = given[0] + given[1]
        meeting.wait(60)
        tensor.copy_(total)

    monkeypatch.setattr(ranks_module.dist, "all_reduce", all_reduce)


NUMBER = threading.local()


def _trained(recipes, dataset, ranks: Ranks) -> Group:
    NUMBER.number = ranks.number
    group = Group(recipes, dataset, CPU, ranks=ranks)
    for _ in range(NUM_UPDATES):
        group.step()
    return group


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_two_ranks_train_what_one_process_does(changes, dataset, exchange):
    recipe = TINY.with_({"train.micro_batch_sequences": 2, **changes})
    recipes = [recipe, recipe.with_({"seed": 1, "optimizer.muon.learning_rate": 0.03})]
    alone = _trained(recipes, dataset, Ranks())
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda number: _trained(recipes, dataset, Ranks(number, 2)), range(2))
    for name, w in first.weights.items():
        assert torch.equal(w, second.weights[name]), name
        if recipe.micro_batch_sequences == 2:  # the same parts, added in the same order
            assert torch.equal(w, alone.weights[name]), name
        torch.testing.assert_close(w, alone.weights[name], rtol=0, atol=2e-4)
    for name, state in alone.do.state.items():
        assert torch.equal(first.do.state[name], state), name
    for ours, theirs, expected in zip(first.recorded, second.recorded, alone.recorded, strict=True):
        assert ours.train_loss == theirs.train_loss == pytest.approx(expected.train_loss, rel=2e-5)
        assert ours.gradient_norm == pytest.approx(expected.gradient_norm, rel=1e-3)


def test_a_batch_that_cannot_be_shared_out_is_refused(dataset):
    with pytest.raises(RecipeError, match=r'^recipe "train.batch_sequences": 4; 3 processes share .*; give a multiple'):
        Group([TINY], dataset, CPU, ranks=Ranks(0, 3))


@pytest.mark.parametrize(("micro", "size", "expected"), [(4, 1, 4), (4, 2, 2), (1, 2, 1), (2, 1, 2), (4, 4, 1)])
def test_a_micro_batch_fits_a_rank(micro, size, expected):
    recipe = TINY.with_({"train.micro_batch_sequences": micro})
    assert Ranks(0, size).micro_batch_of(recipe) == expected
    assert [n for number in range(size) for n in Ranks(number, size).range_of(recipe)] == [0, 1, 2, 3]


def test_ranks_that_go_on_from_unlike_states_are_refused(monkeypatch):
    def gather(said, what):
        said[:] = [what, "update 0 of a"]

    monkeypatch.setattr(ranks_module.dist, "all_gather_object", gather)
    Ranks(0, 2).require_alike("update 0 of a")
    with pytest.raises(TrainerError, match=r"begin at update 0 of a and update 8 of a; .* one store, on a disk"):
        Ranks(0, 2).require_alike("update 8 of a")


@pytest.mark.slow
def test_torchrun_s_processes_give_one_result_and_the_first_alone_speaks(tmp_path):
    """What torchrun does: two processes, told in their environment which they are. The same command, and one result."""
    recipe = TINY.with_({"train.updates": 6, "evaluate.every_updates": 3, "model.dropout": 0.1})
    (tmp_path / "recipe.toml").write_text(recipe.to_toml())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    command = [sys.executable, "-m", "blueberry", "train", "recipe.toml", "--store", "store", "--out", "out", "--json"]
    started = [
        subprocess.Popen(
            command,
            env={**os.environ, **shared, "RANK": str(number), "LOCAL_RANK": str(number)},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    (said, errors), (second_said, second_errors) = (process.communicate(timeout=300) for process in started)
    assert [process.returncode for process in started] == [0, 0], (errors, second_errors)
    assert (second_said, second_errors) == ("", "")
    result = json.loads(said)
    assert result["provenance"]["device"].startswith("2 x cpu")
    alone = train_one(recipe, store=tmp_path / "alone")
    assert result["fingerprint"] == alone.fingerprint
    assert result["curve"]["train_loss"] == pytest.approx(alone.curve.train_loss, rel=2e-5)
    assert alone.final is not None
    assert result["final"]["loss"] == pytest.approx(alone.final.loss, rel=2e-5)
    assert [path.stem for path in (tmp_path / "store" / "weights").iterdir()] == [alone.fingerprint]
    assert train_one(recipe, store=tmp_path / "store").curve.train_loss == tuple(result["curve"]["train_loss"])


def test_a_study_is_not_for_torchrun(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    from blueberry.api import run
    from blueberry.study.spec import Study

    (tmp_path / "recipe.toml").write_text(Recipe().to_toml())
    (tmp_path / "s.toml").write_text(
        'question = "?"\nbase = "recipe.toml"\n[vary]\n"optimizer.muon.learning_rate" = [0.01, 0.02]\n'
    )
    with pytest.raises(TrainerError, match=r"^torchrun: started 2 processes; a study hands its runs out itself; "):
        run(Study.load(tmp_path / "s.toml"), store=tmp_path / "store")
