import json
import multiprocessing

import pytest
import torch

from blueberry.errors import StoreError
from blueberry.lm import precision
from blueberry.lm.checkpoint import Checkpoints
from blueberry.lm.evaluation import token_scores
from blueberry.lm.lanes import train
from blueberry.lm.model import LanguageModel
from blueberry.lm.precision import compute_weights, faster_precision, measure
from blueberry.lm.trainer import Trainer
from blueberry.lm.training import Group
from blueberry.records import Progress
from tests.lm.conftest import CPU, numbers, provenance

DIFFERING = [
    {"seed": 0, "optimizer.muon.learning_rate": 0.01, "model.feed_forward.router_noise": 0.0},
    {"seed": 1, "optimizer.muon.learning_rate": 0.1, "model.feed_forward.router_noise": 0.2},
    {"seed": 2, "schedule.kind": "linear"},
]


@pytest.fixture
def tiny(tiny):
    """Shallower."""
    return tiny.with_({"model.num_layers": 1, "train.updates": 12, "evaluate.every_updates": 6})


@pytest.fixture
def half(tiny):
    return tiny.with_({"train.precision": "bf16"})


@pytest.mark.parametrize("kind", ["moe", "mlp"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_bf16_agrees_with_fp32_within_its_rounding(tiny, half, dataset, kind, dropout):
    """Loss and gradients of one update; a choice of experts may flip, so not every element is held to it."""
    made = {}
    for recipe in (tiny, half):
        recipe = recipe.with_({"model.feed_forward.kind": kind, "model.dropout": dropout})
        group = Group([recipe], dataset, CPU)
        made[recipe.train.precision] = group._gradients(group._batch())
    (loss, grads), (loss_16, grads_16) = made["fp32"], made["bf16"]
    assert loss_16.dtype == torch.float32
    torch.testing.assert_close(loss_16, loss, rtol=2e-3, atol=0)
    assert not torch.equal(loss_16, loss)
    for name, grad in grads.items():
        assert grads_16[name].dtype == torch.float32
        assert ((grads_16[name] - grad).norm() / grad.norm()).item() < 0.1, name


def test_bf16_computes_in_bf16_from_weights_kept_in_fp32(half, dataset):
    group = Group([half], dataset, CPU)
    cast = compute_weights(group.weights, "bf16")
    assert {name for name, w in cast.items() if w.dtype == torch.float32} == {
        "router", "norm.attention", "norm.feed_forward", "norm.final",
    }  # fmt: skip
    hidden = LanguageModel.build(half, CPU).hidden(cast, group._batch()[..., :-1])
    assert hidden.x_NSD.dtype == torch.bfloat16
    assert hidden.balance_N.dtype == torch.float32
    assert compute_weights(group.weights, "fp32") is group.weights
    group.step()
    assert {w.dtype for w in [*group.weights.values(), *group.optimizer.state.values()]} == {torch.float32}
    updated = group.weights["mlp.in" if "mlp.in" in group.weights else "expert.in"]
    assert not torch.equal(updated, updated.bfloat16().float())  # an update smaller than bf16's steps is not lost


def test_bf16_learns_and_says_so(half, tiny, train_group):
    (result,), (exact,) = train_group(half), train_group(tiny)
    assert result.final.loss < result.curve.train_loss[0] - 1.2
    assert result.final.loss == pytest.approx(exact.final.loss, abs=0.05)
    assert result.final.loss != exact.final.loss
    assert (result.provenance.precision, exact.provenance.precision) == ("bf16", "fp32")


def test_evaluation_is_in_the_precision_of_training(half, tiny, dataset):
    both = [Group([recipe], dataset, CPU) for recipe in (half, tiny)]
    tokens = both[0].dataset.validation.tokens[: 4 * 33].reshape(4, 33).astype("int64")
    scores_16, scores = (token_scores(g.model, g.evaluation_weights(), tokens).loss_NWT for g in both)
    assert not (scores_16 == scores).any()
    assert scores_16 == pytest.approx(scores, rel=0.02)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_lanes_equal_single_runs_bitwise_in_bf16(half, train_group, dropout):
    recipes = [half.with_({**changes, "model.dropout": dropout, "train.updates": 4}) for changes in DIFFERING]
    together = train_group(*recipes)
    for recipe, lane in zip(recipes, together, strict=True):
        assert numbers(train_group(recipe)[0]) == numbers(lane)


def test_resumed_equals_undisturbed_bitwise_in_bf16(half, train_group, checkpoints, monkeypatch):
    recipes = [half.with_({**changes, "model.dropout": 0.1, "train.updates": 6}) for changes in DIFFERING]
    undisturbed = train_group(*recipes)
    monkeypatch.setattr("blueberry.lm.training.CHECKPOINT_SECONDS", 0.0)
    step = Group.step
    seen = []

    def killed_at_4(group):
        if group.update == 4:
            raise InterruptedError
        step(group)

    with monkeypatch.context() as context:
        context.setattr(Group, "step", killed_at_4)
        with pytest.raises(InterruptedError):
            train_group(*recipes, checkpoints=checkpoints)
    monkeypatch.setattr(Group, "step", lambda group: (seen.append(group.update), step(group)))
    resumed = train_group(*recipes, checkpoints=checkpoints)
    assert seen[0] == 4
    assert [numbers(result) for result in resumed] == [numbers(result) for result in undisturbed]


@pytest.mark.parametrize("asked", ["fp32", "bf16"])
@pytest.mark.parametrize("micro", [4, 2])
@pytest.mark.parametrize("kind", ["moe", "mlp"])
def test_checkpointed_activations_change_no_bit(tiny, train_group, asked, micro, kind):
    changes = {
        "model.num_layers": 2,
        "model.dropout": 0.1,
        "train.updates": 2,
        "train.precision": asked,
        "train.micro_batch_sequences": micro,
    }
    recipe = tiny.with_({**changes, "model.feed_forward.kind": kind})
    recipes = [recipe, recipe.with_({"seed": 1})]
    kept = train_group(*recipes)
    computed_again = train_group(*(one.with_({"train.checkpoint_activations": True}) for one in recipes))
    for one, other in zip(kept, computed_again, strict=True):
        once, again = numbers(one), numbers(other)
        del once["recipe"], again["recipe"]
        assert once == again


def test_checkpointed_activations_are_computed_again(tiny, dataset, monkeypatch):
    """And only backward: an evaluation, which has no backward pass, computes every layer once."""
    tiny = tiny.with_({"model.num_layers": 2, "train.checkpoint_activations": True})
    group = Group([tiny], dataset, CPU)
    block, called = LanguageModel._block, []
    monkeypatch.setattr(LanguageModel, "_block", lambda model, *given: (called.append(1), block(model, *given))[1])
    group._gradients(group._batch())
    assert len(called) == 2 * tiny.model.num_layers
    called.clear()
    with torch.no_grad():
        group.model.hidden(group.weights, group._batch()[..., :-1])
    assert len(called) == tiny.model.num_layers


# auto


@pytest.fixture
def counted(monkeypatch):
    """Measurements made; bf16 wins every one."""
    made = []

    def measured(recipe, device):
        made.append(recipe)
        return {"fp32": 2.0, "bf16": 1.0}

    monkeypatch.setattr(precision, "measure", measured)
    return made


def test_measuring_takes_both_and_gives_seconds(tiny, monkeypatch):
    seconds = measure(tiny, CPU)
    assert set(seconds) == {"fp32", "bf16"}
    assert 0 < min(seconds.values()) <= max(seconds.values()) < 1
    monkeypatch.setattr(precision, "CLEARLY_SLOWER", float("inf"))  # take the longer look
    seconds = measure(tiny, CPU)
    assert 0 < min(seconds.values()) <= max(seconds.values()) < 5


def test_the_faster_one_is_chosen_measured_once_and_kept(tiny, tmp_path, counted):
    auto = tiny.with_({"train.precision": "auto"})

    def choose(recipe, machine="m"):
        return faster_precision(recipe, CPU, folder=tmp_path / "precision", machine=machine)

    assert [choose(auto) for _ in range(3)] == ["bf16"] * 3
    assert len(counted) == 1
    (kept,) = (tmp_path / "precision").iterdir()
    assert json.loads(kept.read_text())["seconds"] == {"fp32": 2.0, "bf16": 1.0}
    alike = {"seed": 9, "model.feed_forward.router_noise": 0.0, "train.micro_batch_sequences": 2, "model.dropout": 0.1}
    choose(auto.with_({**alike, "train.checkpoint_activations": True}))
    assert len(counted) == 1  # nothing that could make lanes of one group, or a resumed run, compute differently
    choose(auto, machine="another")
    choose(auto.with_({"model.width": 64}))
    choose(auto.with_({"train.batch_sequences": 8}))
    assert len(counted) == 4
    kept.write_text("{")
    choose(auto)
    assert len(counted) == 5


def _choose_in_another_process(recipe, folder, start, said):
    start.wait()
    said.put(faster_precision(recipe, CPU, folder=folder, machine="m"))


def test_workers_that_ask_at_once_agree_on_one_measurement(tiny, tmp_path, monkeypatch):
    """Each process would measure something else."""
    fork = multiprocessing.get_context("fork")
    order, start, said = fork.Value("i", 0), fork.Event(), fork.Queue()

    def measured(recipe, device):
        with order.get_lock():
            order.value += 1
            mine = order.value
        return {"fp32": 1.0, "bf16": 2.0} if mine % 2 else {"fp32": 2.0, "bf16": 1.0}

    monkeypatch.setattr(precision, "measure", measured)
    workers = [
        fork.Process(target=_choose_in_another_process, args=(tiny, tmp_path / "precision", start, said))
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    start.set()
    chosen = [said.get(timeout=30) for _ in workers]
    for worker in workers:
        worker.join()
    assert chosen == ["fp32"] * 4
    assert order.value == 1


def test_a_store_that_cannot_keep_the_choice_says_so(tiny, tmp_path, counted):
    (tmp_path / "precision").write_text("a file")
    with pytest.raises(StoreError, match=r"set train\.precision to fp32 or bf16"):
        faster_precision(tiny, CPU, folder=tmp_path / "precision", machine="m")


def test_auto_trains_like_what_it_chose_and_is_a_run_of_its_own(tiny, half, tmp_path, counted):
    half = half.with_({"train.updates": 4})
    auto = half.with_({"train.precision": "auto"})
    results = {}
    for recipe in (auto, half):
        (results[recipe.train.precision],) = (
            event for event in Trainer(tmp_path, device="cpu")([recipe]) if not isinstance(event, Progress)
        )
    chosen, asked = results["auto"], results["bf16"]
    assert chosen.provenance.precision == "bf16"
    assert chosen.recipe["train.precision"] == "auto"
    assert chosen.fingerprint != asked.fingerprint
    assert (chosen.final, chosen.curve) == (asked.final, asked.curve)


def test_another_precision_s_checkpoint_is_not_continued(tiny, tmp_path, counted, monkeypatch):
    """The kept choice may be lost; the run then begins anew rather than mix two."""
    auto = tiny.with_({"train.precision": "auto", "train.updates": 2})
    builds = []
    monkeypatch.setattr(
        "blueberry.lm.checkpoint.Checkpoints",
        lambda folder, build: (builds.append(build), Checkpoints(folder, build))[1],
    )
    for seconds in ({"fp32": 1.0, "bf16": 2.0}, {"fp32": 2.0, "bf16": 1.0}):
        monkeypatch.setattr(precision, "measure", lambda recipe, device, seconds=seconds: seconds)
        next(iter(Trainer(tmp_path, device="cpu")([auto])))
        for path in (tmp_path / "precision").iterdir():
            path.unlink()
    assert builds[0] != builds[1]


def test_a_group_is_told_what_auto_means(tiny, dataset):
    auto = tiny.with_({"train.precision": "auto", "train.updates": 2})
    with pytest.raises(AssertionError):
        Group([auto], dataset, CPU)
    result = list(train([auto], ["run"], dataset, provenance(dataset), device=CPU, precision="bf16"))[-1]
    assert result.provenance.precision == "bf16"
