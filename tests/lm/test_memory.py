"""Running out of memory, simulated: a forward pass over more sequences of more lanes than a bound is refused."""

import gc
from collections.abc import Iterator

import pytest
import torch

from blueberry.errors import RecipeError
from blueberry.lm.model import LanguageModel
from blueberry.lm.training import train
from blueberry.lm.update import is_out_of_memory, smaller_micro_batch
from blueberry.records import Progress
from tests.lm.conftest import CPU, numbers, provenance


@pytest.fixture(autouse=True)
def _little_to_collect() -> Iterator[None]:
    """What a refusal gives back is the group's; to walk everything that pytest has loaded takes longer than training."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def bounded(monkeypatch):
    """Allow so many sequences of training at once, over all lanes; gives what was tried."""
    hidden = LanguageModel.hidden

    def bound(at_once: int, error=torch.OutOfMemoryError):
        tried = []

        def checked(model, weights, tokens, **given):
            if given.get("keys_SR") is not None:
                tried.append(tuple(tokens.shape[:2]))
                if tokens.shape[0] * tokens.shape[1] > at_once:
                    raise error("Tried to allocate; can't allocate memory")
            return hidden(model, weights, tokens, **given)

        monkeypatch.setattr(LanguageModel, "hidden", checked)
        return tried

    return bound


@pytest.fixture
def train_in_memory(dataset):
    def run(*recipes, checkpoints=None):
        names = [f"run{index}" for index in range(len(recipes))]
        said = list(train(recipes, names, dataset, provenance(dataset), device=CPU, checkpoints=checkpoints))
        results = {event.fingerprint: event for event in said if not isinstance(event, Progress)}
        return [results[name] for name in names], [e.note for e in said if isinstance(e, Progress) and e.note]

    return run


@pytest.fixture
def short(tiny):
    return tiny.with_({"train.updates": 6, "model.num_layers": 1, "model.dropout": 0.1})


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError, MemoryError])
def test_first_the_micro_batch_is_halved_and_it_is_said(short, bounded, train_in_memory, error):
    short = short.with_({"train.updates": 2})
    asked = short.with_({"train.micro_batch_sequences": 2})
    (expected,), _ = train_in_memory(asked)
    tried = bounded(2, error)
    (result,), notes = train_in_memory(short)
    assert tried[0] == (1, 4)
    assert set(tried[1:]) == {(1, 2)}
    (note,) = notes
    assert "out of memory with 4 sequences at once: going on with micro-batches of 2" in note
    assert result.provenance.micro_batch_sequences == 2
    ours, theirs = numbers(result), numbers(expected)
    del ours["recipe"], theirs["recipe"]
    assert ours == theirs  # bitwise what the setting would have given


def test_a_smaller_micro_batch_changes_rounding_alone(short, bounded, train_in_memory):
    short = short.with_({"train.updates": 3})
    (whole,), _ = train_in_memory(short)
    bounded(1)
    (result,), notes = train_in_memory(short)
    assert len(notes) == 1
    assert result.curve.train_loss == pytest.approx(whole.curve.train_loss, rel=1e-4)
    assert (whole.provenance.micro_batch_sequences, result.provenance.micro_batch_sequences) == (4, 1)


def test_then_the_lanes_are_split_and_their_numbers_stay_bitwise(short, bounded, train_in_memory):
    short = short.with_({"train.updates": 2, "train.micro_batch_sequences": 1})
    recipes = [short.with_(seed=seed) for seed in range(5)]
    together, notes = train_in_memory(*recipes)
    assert notes == []
    tried = bounded(2)
    apart, notes = train_in_memory(*recipes)
    assert [tuple(n) for n in dict.fromkeys(tried)] == [(5, 1), (3, 1), (2, 1), (1, 1)]
    assert [note.partition(":")[2].partition(";")[0] for note in notes] == [
        " training 3 and then 2",
        " training 2 and then 1",
    ]
    assert [numbers(result) for result in apart] == [numbers(result) for result in together]
    assert [result.provenance.lanes for result in together] == [5] * 5
    assert [result.provenance.lanes for result in apart] == [2, 2, 1, 2, 2]


def test_lanes_that_have_ended_are_not_trained_again(short, bounded, train_in_memory, replace_gradients):
    short = short.with_({"train.updates": 3, "train.micro_batch_sequences": 1})
    recipes = [short.with_(seed=seed) for seed in range(3)]

    def poisoned(group, inputs, gradients):
        loss, grads, load = gradients(inputs)
        if len(group.recipes) == 3:
            if group.update == 2:
                raise torch.OutOfMemoryError("no more")
            loss[1] = float("nan")
        return loss, grads, load

    replace_gradients(poisoned)
    results, _ = train_in_memory(*recipes)
    assert [result.status for result in results] == ["completed", "diverged", "completed"]
    assert [result.provenance.lanes for result in results] == [1, 3, 1]


def test_halves_go_on_from_the_checkpoint_of_the_whole(
    short, checkpoints, train_in_memory, replace_gradients, monkeypatch
):
    recipes = [short.with_({"seed": seed, "train.micro_batch_sequences": 1}) for seed in range(2)]
    together, _ = train_in_memory(*recipes)
    monkeypatch.setattr("blueberry.lm.training.CHECKPOINT_SECONDS", 0.0)
    seen = []

    def bounded(group, inputs, gradients):
        seen.append((len(group.recipes), group.update))
        if seen[-1] == (2, 4):
            raise torch.OutOfMemoryError("no more")
        return gradients(inputs)

    replace_gradients(bounded)
    apart, _ = train_in_memory(*recipes, checkpoints=checkpoints)
    assert seen == [(2, 0), (2, 1), (2, 2), (2, 3), (2, 4), (1, 4), (1, 5), (1, 4), (1, 5)]
    assert [numbers(result) for result in apart] == [numbers(result) for result in together]


def test_a_resumed_run_keeps_its_smaller_micro_batch_bitwise(
    short, bounded, checkpoints, train_in_memory, replace_gradients, monkeypatch
):
    monkeypatch.setattr("blueberry.lm.training.CHECKPOINT_SECONDS", 0.0)

    def tight_at_2(killed_at):
        def checked(group, inputs, gradients):
            if group.update == 2 and group.do.micro_batch_sequences == 4:
                raise torch.OutOfMemoryError("no more")
            if group.update == killed_at:
                raise InterruptedError
            return gradients(inputs)

        replace_gradients(checked)

    tight_at_2(killed_at=None)
    (undisturbed,), _ = train_in_memory(short)
    tight_at_2(killed_at=4)
    with pytest.raises(InterruptedError):
        train_in_memory(short, checkpoints=checkpoints)
    tried = bounded(100)
    replace_gradients(lambda group, inputs, gradients: gradients(inputs))
    (resumed,), notes = train_in_memory(short, checkpoints=checkpoints)
    assert set(tried) == {(1, 2)}
    assert notes == []
    assert numbers(resumed) == numbers(undisturbed)


def test_one_sequence_of_one_run_that_does_not_fit_is_one_line(short, bounded, train_in_memory):
    bounded(0)
    with pytest.raises(RecipeError) as error:
        train_in_memory(short)
    assert "does not fit the memory of cpu" in str(error.value)
    assert "train.checkpoint_activations = true" in str(error.value)


def test_other_errors_are_not_taken_for_it(short, bounded, train_in_memory):
    class Other(RuntimeError):
        def __init__(self, message):
            super().__init__("a bug")

    tried = bounded(2, Other)
    with pytest.raises(Other, match="a bug"):
        train_in_memory(short)
    assert len(tried) == 1
    assert not is_out_of_memory(RuntimeError("a bug"))


@pytest.mark.parametrize(
    ("batch", "micro", "smaller"), [(8, 8, 4), (12, 12, 6), (12, 6, 3), (12, 3, 1), (9, 9, 3), (7, 7, 1), (8, 1, None)]
)
def test_the_micro_batch_is_about_halved_and_divides(batch, micro, smaller):
    assert smaller_micro_batch(batch, micro) == smaller
