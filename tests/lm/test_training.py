import math
import shutil
from pathlib import Path

import pytest
import torch

from blueberry.lm.checkpoint import Checkpoints
from blueberry.lm.optimizers import group_of
from blueberry.lm.training import Group, train
from blueberry.recipe import Recipe, shape_key
from blueberry.records import Progress
from blueberry.settings import AdamWOptimizer, MuonAdamWOptimizer
from tests.lm.conftest import CPU, TINY, numbers, provenance


@pytest.fixture(scope="module")
def tiny() -> Recipe:
    """One layer, twelve updates: test_variants.py has the layers."""
    return TINY.with_({"model.num_layers": 1, "train.updates": 12, "evaluate.every_updates": 6})


def _differing(tiny):
    return [
        tiny.with_(
            {
                "seed": seed,
                "optimizer.muon.learning_rate": rate,
                "optimizer.adamw.weight_decay": decay,
                "train.clip_norm": clip,
                "schedule.kind": schedule,
                "model.feed_forward.router_noise": noise,
                **({"schedule.patience_evaluations": 1} if schedule == "plateau" else {}),
            }
        )
        for seed, rate, decay, clip, schedule, noise in [
            (0, 0.01, 0.0, 1.0, "cosine", 0.1),
            (0, 0.03, 0.1, 0.0, "linear", 0.0),
            (1, 0.1, 0.5, 0.3, "constant", 0.2),
            (2, 0.05, 0.1, 1.0, "warmup-stable-decay", 0.1),
            (3, 0.05, 0.1, 1.0, "plateau", 0.1),
        ]
    ]


def test_lanes_equal_single_runs_bitwise(tiny, train_group):
    """Without dropout, which test_variants.py has."""
    recipes = _differing(tiny.with_({"evaluate.every_updates": 3}))
    together = train_group(*recipes)
    for recipe, lane in zip(recipes, together, strict=True):
        assert numbers(train_group(recipe)[0]) == numbers(lane)


def test_training_learns(tiny, train_group):
    (result,) = train_group(tiny)
    assert result.status == "completed"
    assert result.curve.train_loss[0] == pytest.approx(math.log(256), abs=0.3)
    assert result.final.loss < result.curve.train_loss[0] - 1.2
    assert result.final.loss == result.evaluations[-1].validation.loss
    assert [evaluation.update for evaluation in result.evaluations] == [6, 12]
    assert result.num_tokens == 12 * 4 * 32
    assert result.final.bits_per_byte == pytest.approx(result.final.loss / math.log(2), rel=1e-9)  # bytes are tokens
    weighted = sum(document.loss * document.num_tokens for document in result.document_losses)
    assert weighted / result.final.num_tokens == pytest.approx(result.final.loss, rel=1e-9)


def test_rates_used_are_recorded(tiny, train_group):
    (result,) = train_group(
        tiny.with_(
            {
                "optimizer.muon.learning_rate": 0.03,
                "schedule.kind": "linear",
                "train.updates": 4,
                "schedule.floor_fraction": 0.1,
            }
        )
    )
    assert result.curve.learning_rate == pytest.approx([0.03, 0.021, 0.012, 0.003])


def test_a_lane_that_turns_non_finite_is_frozen_and_the_others_go_on(tiny, dataset, train_group, replace_gradients):
    recipes = [tiny.with_({"seed": seed}) for seed in (0, 1, 2)]
    healthy = train_group(*recipes)
    frozen = []

    def poisoned(group, inputs, gradients):
        loss, grads, load = gradients(inputs)
        if group.update == 7:
            grads["router"][1, 0, 0, 0] = float("nan")
        if group.update >= 7:
            frozen.append({name: w[1].clone() for name, w in group.weights.items()})
        return loss, grads, load

    replace_gradients(poisoned)
    first, second, third = train_group(*recipes)
    assert (numbers(first), numbers(third)) == (numbers(healthy[0]), numbers(healthy[2]))
    assert second.status == "diverged"
    assert second.failure.update == 8
    assert second.final is None
    assert second.num_updates == 8
    assert second.curve.gradient_norm[-1] is None
    assert len(second.curve.train_loss) == 8
    for name, weight in frozen[0].items():
        assert torch.equal(weight, frozen[-1][name])


def test_a_group_stops_when_every_lane_has_diverged(tiny, dataset, replace_gradients, monkeypatch):

    def poisoned(group, inputs, gradients):
        loss, grads, load = gradients(inputs)
        return loss * float("nan"), grads, load

    replace_gradients(poisoned)
    steps = []
    step = Group.step
    monkeypatch.setattr(Group, "step", lambda group: (steps.append(1), step(group)))
    results = list(train([tiny], ["run"], dataset, provenance(dataset), device=CPU))
    assert [result.status for result in results] == ["diverged"]
    assert len(steps) == 1


class _Killed(Exception):
    pass


def _kill_at(monkeypatch, update: int) -> None:
    step = Group.step

    def stepped(group):
        if group.update == update:
            raise _Killed
        step(group)

    monkeypatch.setattr(Group, "step", stepped)


def test_resumed_equals_undisturbed_bitwise(tiny, train_group, checkpoints, monkeypatch):
    recipes = _differing(tiny.with_({"model.dropout": 0.1, "evaluate.every_updates": 3}))
    undisturbed = train_group(*recipes)
    monkeypatch.setattr("blueberry.lm.training.CHECKPOINT_SECONDS", 0.0)
    with monkeypatch.context() as context:
        _kill_at(context, 8)
        with pytest.raises(_Killed):
            train_group(*recipes, checkpoints=checkpoints)
    assert checkpoints.updates("run0") == [8, 7]
    seen = []
    step = Group.step
    monkeypatch.setattr(Group, "step", lambda group: (seen.append(group.update), step(group)))
    resumed = train_group(*recipes, checkpoints=checkpoints)
    assert seen[0] == 8
    assert [numbers(result) for result in resumed] == [numbers(result) for result in undisturbed]


def test_runs_that_come_from_other_groups_go_on_from_where_each_was(
    tiny, dataset, train_group, checkpoints, monkeypatch
):
    """As with other workers than before the interruption. A run without a state begins beside one that has saved once."""
    recipes = _differing(tiny.with_({"evaluate.every_updates": 3}))
    undisturbed = train_group(*recipes)
    names = [f"run{lane}" for lane in range(5)]
    monkeypatch.setattr("blueberry.lm.training.CHECKPOINT_SECONDS", 0.0)
    for lanes, update in ((slice(0, 2), 8), (slice(2, 3), 5), (slice(3, 4), 1)):
        with monkeypatch.context() as context:
            _kill_at(context, update)
            with pytest.raises(_Killed):
                list(
                    train(
                        recipes[lanes], names[lanes], dataset, provenance(dataset), device=CPU, checkpoints=checkpoints
                    )
                )
    begun: dict[Group, tuple[int, int]] = {}
    step = Group.step
    monkeypatch.setattr(
        Group, "step", lambda group: (begun.setdefault(group, (len(group.recipes), group.update)), step(group))
    )
    resumed = train_group(*recipes, checkpoints=checkpoints)
    assert list(begun.values()) == [(2, 8), (1, 5), (2, 0)]
    assert [numbers(result) for result in resumed] == [numbers(result) for result in undisturbed]


def test_saving_takes_a_small_share_of_the_time(tiny, train_group, checkpoints, monkeypatch):
    """After a save that took a second the next comes no sooner than fifty later."""
    clock, saved = [0.0], []
    step, save = Group.step, Checkpoints.save
    monkeypatch.setattr("blueberry.lm.training.time.monotonic", lambda: clock[0])
    monkeypatch.setattr(Group, "step", lambda group: (clock.__setitem__(0, clock[0] + 15.0), step(group)))

    def slow(checkpoints, fingerprint, checkpoint):
        saved.append(checkpoint.update)
        clock[0] += 1.0
        save(checkpoints, fingerprint, checkpoint)

    monkeypatch.setattr(Checkpoints, "save", slow)
    train_group(tiny, checkpoints=checkpoints)
    assert saved == [1, 5, 9]


@pytest.fixture(scope="module")
def half_way(tiny, dataset, tmp_path_factory) -> tuple[Path, dict]:
    """The checkpoints of a run that was killed before update 8, and the numbers of one that was not. Read only."""
    folder = tmp_path_factory.mktemp("half way")
    arguments = {"device": CPU, "checkpoints": Checkpoints(folder, build="test")}
    with pytest.MonkeyPatch.context() as context:
        context.setattr("blueberry.lm.training.CHECKPOINT_SECONDS", 0.0)
        _kill_at(context, 8)
        with pytest.raises(_Killed):
            list(train([tiny], ["run0"], dataset, provenance(dataset), **arguments))
    undisturbed = list(train([tiny], ["run0"], dataset, provenance(dataset), device=CPU))[-1]
    return folder, numbers(undisturbed)


@pytest.mark.parametrize("damage", ["truncate", "flip", "delete"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    tiny, train_group, checkpoints, half_way, monkeypatch, damage
):
    killed, undisturbed = half_way
    shutil.copytree(killed, checkpoints.folder)
    newest = sorted((checkpoints.folder / "run0").iterdir())[-1]
    data = newest.read_bytes()
    match damage:
        case "truncate":
            newest.write_bytes(data[: len(data) // 2])
        case "flip":
            newest.write_bytes(data[:-5] + bytes([data[-5] ^ 1]) + data[-4:])
        case "delete":
            newest.unlink()
    seen = []
    step = Group.step
    monkeypatch.setattr(Group, "step", lambda group: (seen.append(group.update), step(group)))
    (resumed,) = train_group(tiny, checkpoints=checkpoints)
    assert seen[0] == 7
    assert numbers(resumed) == undisturbed


def test_another_build_s_checkpoint_is_not_continued(tiny, train_group, checkpoints, half_way, monkeypatch):
    shutil.copytree(half_way[0], checkpoints.folder)
    begun = []

    def stepped(group):
        begun.append(group.update)
        raise _Killed

    monkeypatch.setattr(Group, "step", stepped)
    for build in ("another", "test"):
        with pytest.raises(_Killed):
            train_group(tiny, checkpoints=Checkpoints(checkpoints.folder, build=build))
    assert begun == [0, 8]


def test_progress_says_what_is_done(tiny, dataset, monkeypatch):
    monkeypatch.setattr("blueberry.lm.training.PROGRESS_SECONDS", 0.0)
    events = list(train([tiny], ["run"], dataset, provenance(dataset), device=CPU))
    progress = [event for event in events if isinstance(event, Progress) and event.note is None]
    assert [event.update for event in progress] == list(range(1, 13))
    assert all(event.num_updates == 12 and event.tokens_per_second > 0 for event in progress)
    assert progress[-1].train_losses[0] < progress[0].train_losses[0]


def test_how_far_groups_move_is_recorded(tiny, dataset, train_group):
    """Against the weights themselves, before and after the update that each evaluation follows."""
    recipe = tiny.with_({"train.updates": 6, "evaluate.every_updates": 3, "optimizer.rates.embedding": 0.5})
    other = recipe.with_({"seed": 1, "optimizer.muon.learning_rate": 0.01})
    recorded = [result.evaluations for result in train_group(recipe, other)]
    assert [[look.update for look in looks] for looks in recorded] == [[3, 6], [3, 6]]
    group = Group([recipe, other], dataset, CPU)
    for update in range(6):
        _, grads = group.do.gradients(group.inputs())[:2]
        before = {name: w.clone() for name, w in group.weights.items()}
        group.step()
        if update not in (2, 5):
            continue
        for lane, looks in enumerate(recorded):
            groups = {one.group: one for one in looks[update // 3].groups}
            assert set(groups) == {"matrices", "router", "embedding", "norms"}
            for label, one in groups.items():
                names = [name for name in before if group_of(name) == label]

                def norm(tensors, names=names, lane=lane):
                    return math.sqrt(sum(tensors[name][lane].double().square().sum().item() for name in names))

                change = norm({name: group.weights[name] - before[name] for name in names})
                assert one.gradient_norm == pytest.approx(norm(grads), rel=1e-4)
                assert one.update_fraction == pytest.approx(change / norm(before), rel=1e-4)
            rate = looks[update // 3].groups[0].learning_rate
            assert rate == pytest.approx(group.recipes[lane].planned_rates()[update], rel=1e-6)
            ratios = {label: one.learning_rate / groups["matrices"].learning_rate for label, one in groups.items()}
            assert ratios == pytest.approx({"matrices": 1, "router": 1, "embedding": 0.05, "norms": 0.1}, rel=1e-6)


def test_updates_without_evaluation_measure_no_movement(tiny, dataset, monkeypatch):
    group = Group([tiny], dataset, CPU)
    group.step()
    assert not group.moved
    monkeypatch.setattr("blueberry.lm.training.moved", None)
    group.step()


def _stalling(tiny):
    """A rate so small that nothing improves by 1 nat: a cut after every second evaluation."""
    return tiny.with_(
        {
            "schedule.kind": "plateau",
            "schedule.warmup_updates": 2,
            "schedule.factor": 0.5,
            "schedule.patience_evaluations": 2,
            "schedule.min_improvement_nats": 1.0,
            "evaluate.every_updates": 2,
            "optimizer.muon.learning_rate": 0.001,
        }
    )


def test_a_plateau_cuts_the_rate_that_is_used(tiny, train_group):
    (result,) = train_group(_stalling(tiny))
    assert [cut.model_dump() for cut in result.rate_cuts] == [
        {"update": 6, "multiplier": 0.5},
        {"update": 10, "multiplier": 0.25},
    ]
    heights = [1 / 2, *[1.0] * 5, *[0.5] * 4, *[0.25] * 2]
    assert result.curve.learning_rate == pytest.approx([0.001 * height for height in heights])
    used = {look.update: look.groups[0].learning_rate for look in result.evaluations}
    assert used == pytest.approx({update: 0.001 * heights[update - 1] for update in (2, 4, 6, 8, 10, 12)})
    without = _stalling(tiny).with_({"schedule.min_improvement_nats": 0.0})
    (uncut,) = train_group(without)
    assert uncut.final.loss != result.final.loss


@pytest.mark.parametrize("update", [6, 9])
def test_a_plateau_s_cuts_survive_resumption(tiny, train_group, checkpoints, monkeypatch, update):
    recipes = [_stalling(tiny), _stalling(tiny).with_({"seed": 1, "schedule.patience_evaluations": 1})]
    undisturbed = train_group(*recipes)
    monkeypatch.setattr("blueberry.lm.training.CHECKPOINT_SECONDS", 0.0)
    with monkeypatch.context() as context:
        _kill_at(context, update)
        with pytest.raises(_Killed):
            train_group(*recipes, checkpoints=checkpoints)
    assert checkpoints.updates("run0")[0] == update
    resumed = train_group(*recipes, checkpoints=checkpoints)
    assert [numbers(result) for result in resumed] == [numbers(result) for result in undisturbed]
    assert all(result.rate_cuts for result in resumed)


OPTIMIZERS = {kind.model_fields["kind"].default: kind for kind in (MuonAdamWOptimizer, AdamWOptimizer)}
OTHERS = {
    "muon.learning_rate": 0.02,
    "muon.momentum": 0.8,
    "muon.nesterov": False,
    "muon.num_iterations": 2,
    "muon.coefficients": "polar-express",
    "muon.update_scale": "rms",
    "muon.weight_decay": 1.0,
    "muon.row_beta": 0.9,
    "adamw.learning_rate_ratio": 0.3,
    "adamw.learning_rate": 0.02,
    "adamw.beta1": 0.5,
    "adamw.beta2": 0.5,
    "adamw.epsilon": 1e-2,
    "adamw.weight_decay": 1.0,
    "adamw.decay_norms": True,
    "rates.matrices": 0.5,
    "rates.router": 0.5,
    "rates.embedding": 0.5,
    "rates.norms": 0.5,
}
"""A value for each setting of an optimizer that is not its default. A new setting without one fails."""
REFUSED_HERE = {"rates.head"}
"""Of what this model has not; setting it is an error."""


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_every_setting_of_every_optimizer_changes_the_run(tiny, train_group, kind):
    base = tiny.with_({"train.updates": 3, "optimizer.kind": kind})
    assert type(base.optimizer) is OPTIMIZERS[kind]
    names = {name for name in base.flat() if name.startswith("optimizer.")} - {"optimizer.kind"}
    changed = {
        name: base.with_({name: OTHERS[name.removeprefix("optimizer.")]})
        for name in sorted(names - {f"optimizer.{name}" for name in REFUSED_HERE})
    }
    beside = {name: recipe for name, recipe in changed.items() if shape_key(recipe, "d") == shape_key(base, "d")}
    alone = {name: recipe for name, recipe in changed.items() if name not in beside}
    unchanged, *lanes = train_group(base, *beside.values())
    results = dict(zip(beside, lanes, strict=True)) | {name: train_group(one)[0] for name, one in alone.items()}
    assert set(results) == set(changed)
    for name, result in results.items():
        assert result.final.loss != unchanged.final.loss, name


def test_adamw_alone_learns(tiny, train_group):
    (result,) = train_group(tiny.with_({"optimizer.kind": "adamw", "optimizer.adamw.learning_rate": 0.01}))
    assert result.final.loss < result.curve.train_loss[0] - 1
    assert [one.learning_rate for one in result.evaluations[-1].groups] == pytest.approx([0.001] * 4)


def test_every_per_lane_setting_changes_a_lane(tiny, train_group):
    """A setting that is set but never read would leave its lane equal to its neighbour's."""
    changes = {
        "seed": 1,
        "optimizer.muon.learning_rate": 0.02,
        "train.clip_norm": 0.05,
        "schedule.kind": "linear",
        "schedule.warmup_fraction": 0.4,
        "schedule.floor_fraction": 0.9,
        "model.feed_forward.balance_weight": 1.0,
        "model.feed_forward.router_noise": 1.0,
    }
    short = tiny.with_({"train.updates": 6})
    unchanged, *changed = train_group(short, *(short.with_({name: value}) for name, value in changes.items()))
    for name, result in zip(changes, changed, strict=True):
        assert result.final.loss != unchanged.final.loss, name


def test_every_shared_setting_changes_the_run(tiny, train_group):
    """But the model's, which test_variants.py has."""
    short = tiny.with_({"train.updates": 3})
    (unchanged,) = train_group(short)
    for name, value in (("train.batch_sequences", 5), ("train.precision", "bf16"), ("evaluate.tokens", 256)):
        (changed,) = train_group(short.with_({name: value}))
        assert changed.final.loss != unchanged.final.loss, name


def test_a_warning_is_said_once_over_an_interruption_too(tiny, dataset, train_group, checkpoints, monkeypatch):
    monkeypatch.setattr("blueberry.curves.USED_FRACTION", 2.0)  # so that any routing is a collapse
    monkeypatch.setattr("blueberry.lm.training.CHECKPOINT_SECONDS", 0.0)
    recipe, said = tiny.with_({"evaluate.every_updates": 4}), []

    def listen():
        arguments = {"device": CPU, "checkpoints": checkpoints}
        for event in train([recipe, recipe.with_(seed=9)], ["run0", "run1"], dataset, provenance(dataset), **arguments):
            if isinstance(event, Progress) and event.note is not None:
                said.append(event.note)

    with monkeypatch.context() as context:
        _kill_at(context, 9)
        with pytest.raises(_Killed):
            listen()
    assert [note.split(":")[0] for note in said] == ["run run0, update 4", "run run1, update 4"]
    listen()
    assert len(said) == 2
