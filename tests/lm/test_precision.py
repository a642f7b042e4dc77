import pytest
import torch

from blueberry.lm import layers as precision
from blueberry.lm import model
from blueberry.lm.checkpoint import Checkpoints
from blueberry.lm.evaluation import token_scores
from blueberry.lm.layers import compute_weights, resolved
from blueberry.lm.model import LanguageModel
from blueberry.lm.trainer import Trainer
from blueberry.lm.training import Group
from blueberry.records import Progress
from tests.lm.conftest import CPU, numbers

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
        made[recipe.train.precision] = group.do.gradients(group.inputs())[:2]
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
        "router", "norm.attention", "norm.feed_forward", "norm.final", "embedding",
    }  # fmt: skip
    hidden = LanguageModel.build(half, CPU).hidden(cast, group._batch()[..., :-1])
    assert hidden.x_NSD.dtype == torch.bfloat16
    assert hidden.balance_N.dtype == torch.float32
    assert compute_weights(group.weights, "fp32") is group.weights
    group.step()
    assert {w.dtype for w in [*group.weights.values(), *group.do.optimizer.state.values()]} == {torch.float32}
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
    scores_16, scores = (token_scores(g.do.model, g.evaluation_weights(), tokens).loss_NWT for g in both)
    assert (scores_16 == scores).mean() < 0.02
    assert scores_16 == pytest.approx(scores, rel=0.02)


def test_lanes_equal_single_runs_bitwise_in_bf16(half, train_group):
    recipes = [half.with_({**changes, "model.dropout": 0.1, "train.updates": 4}) for changes in DIFFERING]
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


@pytest.mark.parametrize(
    ("asked", "micro", "kind"), [("fp32", 4, "mlp"), ("fp32", 2, "moe"), ("bf16", 4, "moe"), ("bf16", 2, "mlp")]
)
def test_checkpointed_activations_change_no_bit(tiny, train_group, asked, micro, kind):
    """Every two of the three choices together."""
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
    block, called = model._block, []
    monkeypatch.setattr(model, "_block", lambda *given: (called.append(1), block(*given))[1])
    group.do.gradients(group.inputs())
    assert len(called) == 2 * tiny.model.num_layers
    called.clear()
    with torch.no_grad():
        group.do.model.hidden(group.weights, group._batch()[..., :-1])
    assert len(called) == tiny.model.num_layers


@pytest.mark.parametrize(
    ("device", "width", "native", "expected"),
    [
        ("cpu", 191, True, "fp32"),
        ("cpu", 192, True, "bf16"),
        ("cpu", 192, False, "fp32"),
        ("cuda", 32, True, "bf16"),
        ("cuda", 32, False, "fp32"),
    ],
)
def test_auto_is_a_rule_by_device_and_width(tiny, monkeypatch, device, width, native, expected):
    monkeypatch.setattr(precision, "multiplies_bf16", lambda device: native)
    auto = tiny.with_({"train.precision": "auto", "model.width": 2 * width, "model.num_heads": 1})
    auto = auto.with_({"model.width": width, "model.attention.kind": "latent"})
    assert resolved(auto, torch.device(device)) == expected
    for asked in ("fp32", "bf16"):
        assert resolved(auto.with_({"train.precision": asked}), torch.device(device)) == asked


def test_auto_trains_like_what_it_chose_and_is_a_run_of_its_own(tiny, half, tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "multiplies_bf16", lambda device: True)
    monkeypatch.setattr(precision, "LEAST_WIDTH", tiny.model.width)
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


def test_another_precision_s_checkpoint_is_not_continued(tiny, tmp_path, monkeypatch):
    """On another processor auto may mean another; the run then begins anew rather than mix two."""
    auto = tiny.with_({"train.precision": "auto", "train.updates": 2})
    builds = []
    monkeypatch.setattr(
        "blueberry.lm.checkpoint.Checkpoints",
        lambda folder, build: (builds.append(build), Checkpoints(folder, build))[1],
    )
    monkeypatch.setattr(precision, "LEAST_WIDTH", 0)
    for native in (True, False):
        monkeypatch.setattr(precision, "multiplies_bf16", lambda device, native=native: native)
        next(iter(Trainer(tmp_path, device="cpu")([auto])))
    assert builds[0] != builds[1]


def test_a_token_that_occurs_often_loses_no_gradient_in_bf16(half, dataset):
    """Sums over tokens are fp32: of the embedding's rows and of the head's too."""
    made = {}
    for asked in ("fp32", "bf16"):
        recipe = half.with_({"train.precision": asked, "train.batch_sequences": 64, "model.tied_head": False})
        group = Group([recipe], dataset, CPU)
        inputs = group.inputs()
        inputs.tokens_NBT1[...] = 7  # 2,048 times one token: a sum in bf16 stands still at 256 of its terms
        made[asked] = group.do.gradients(inputs)[1]
    for name in ("embedding", "head"):
        exact, rounded = made["fp32"][name][0, 7], made["bf16"][name][0, 7]
        assert ((rounded - exact).norm() / exact.norm()).item() < 0.05, name
