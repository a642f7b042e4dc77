"""Training on a mixture, measured on several named sets."""

from dataclasses import replace

import pytest

from blueberry.errors import DataError
from blueberry.lm.evaluation import metrics
from blueberry.lm.training import Group, train
from blueberry.records import Progress, RunResult
from blueberry.text.dataset import load
from blueberry.text.windows import evaluation_set
from tests.lm.conftest import CPU, TINY, numbers, provenance


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    for number in range(80):
        (folder / f"{number}.txt").write_text(f"Number {number}, squared, is {number**2}. " * 40)
    return folder


@pytest.fixture(scope="module")
def mixed(folder):
    return TINY.with_(
        {
            "data.corpus": "mixture",
            "data.mixture.letters.corpus": "synthetic",
            "data.mixture.letters.max_documents": 200,
            "data.mixture.letters.weight": 3.0,
            "data.mixture.numbers.corpus": "files",
            "data.mixture.numbers.files.paths": [f"{folder}/*.txt"],
            "data.sets.strange.corpus": "synthetic",
            "data.sets.strange.max_characters": 300,
            "data.test_fraction": 0.1,
            "train.updates": 4,
            "evaluate.every_updates": 2,
        }
    )


@pytest.fixture(scope="module")
def text(mixed, folder):
    return load(mixed.data, folder / "cache")


def run(recipe, dataset, **more):
    events = train([recipe], ["run"], dataset, provenance(dataset), device=CPU, **more)
    return next(event for event in events if not isinstance(event, Progress))


def test_every_evaluation_measures_every_set(mixed, text):
    result = run(mixed, text)
    assert [set(evaluation.sets) for evaluation in result.evaluations] == [{"letters", "numbers", "strange"}] * 2
    assert result.sets == result.evaluations[-1].sets
    losses = {name: measured.loss for name, measured in result.sets.items()}
    assert len({*losses.values(), result.final.loss}) == 4
    low, high = sorted((losses["letters"], losses["numbers"]))
    assert low < result.final.loss < high, "the mixture lies between its corpora"
    assert RunResult.model_validate_json(result.model_dump_json()) == result.model_copy(
        update={"recipe": RunResult.model_validate_json(result.model_dump_json()).recipe}
    )


def test_a_set_s_metrics_are_those_of_its_own_windows(mixed, text):
    group = Group([mixed], text, CPU)
    held_out = evaluation_set(text.sets["numbers"], context_tokens=32, num_tokens=mixed.evaluate.tokens)
    assert group.look_at_sets({"numbers": held_out}) == [{"numbers": group.look(held_out)[0].metrics}]


def test_weights_of_a_mixture_change_the_run_and_sets_do_not(mixed, text):
    plain = run(mixed, text)
    heavier = run(
        mixed.with_({"data.mixture.letters.weight": 30.0}),
        load_again(mixed, text, {"data.mixture.letters.weight": 30.0}),
    )
    assert heavier.curve.train_loss != plain.curve.train_loss
    data = mixed.data.model_copy(update={"sets": {}})
    without = replace(text, sets={name: text.sets[name] for name in ("letters", "numbers")})
    assert numbers(run(mixed.model_copy(update={"data": data}), without))["curve"] == numbers(plain)["curve"]


def load_again(mixed, text, changes):
    from dataclasses import replace

    recipe = mixed.with_(changes)
    weights = {name: part.weight for name, part in recipe.data.mixture.items()}
    shares = tuple(weights[name] / sum(weights.values()) for name in text.train.names)
    return replace(text, train=replace(text.train, shares=shares))


def test_a_corpus_shorter_than_an_update_is_refused(mixed, text):
    with pytest.raises(
        DataError, match=r"^train\.batch_sequences: 100000; the training split of letters holds \d+ windows"
    ):
        run(mixed.with_({"train.batch_sequences": 100_000}), text)


def test_bits_per_byte_are_missing_where_bytes_are_not_known(mixed, text):
    group = Group([mixed], text, CPU)
    held_out = evaluation_set(text.sets["numbers"], context_tokens=32, num_tokens=64)
    import numpy as np

    shape = (held_out.windows.shape[0], 32)
    assert metrics(np.ones(shape), np.ones(shape, dtype=bool), held_out, None).bits_per_byte is None
    assert group.look(held_out)[0].metrics.bits_per_byte is not None
