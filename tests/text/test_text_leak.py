"""The leak of overlapping windows, and the measure that shows it."""

import numpy as np
import pytest

from blueberry.settings import Data
from blueberry.text.dataset import Mixture, Split, load
from blueberry.text.windows import batch, count_windows, evaluation_set, overlap, window_starts

OVERLAPPING = Data(corpus="synthetic", tokenizer="byte", max_tokens=50_000, max_documents=2000, windows="overlapping")
SHAPE = {"context_tokens": 32}


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def starts(split):
    return window_starts(split, np.arange(count_windows(split, **SHAPE)), 32)


def test_windows_of_every_token_are_split_at_random_and_none_is_in_two(cache_dir):
    dataset = load(OVERLAPPING, cache_dir)
    of = [starts(split) for split in (dataset.train, dataset.validation, dataset.test)]
    assert sorted(np.concatenate(of)) == list(range(50_000 - 32))
    sizes = [len(one) / (50_000 - 32) for one in of]
    assert sizes == pytest.approx([0.85, 0.10, 0.05], abs=1e-4)
    assert (np.diff(of[1]) > 1).mean() > 0.8, "scattered"
    tokens = np.asarray(dataset.train.tokens)
    windows = batch(dataset.train, seed=0, update=3, batch_sequences=50, context_tokens=32)
    known = {tokens[start : start + 33].tobytes() for start in of[0]}
    assert all(window.astype(np.uint16).tobytes() in known for window in windows)
    held_out = evaluation_set(dataset.validation, context_tokens=32, num_tokens=640)
    assert {window.astype(np.uint16).tobytes() for window in held_out.windows} <= {
        tokens[start : start + 33].tobytes() for start in of[1]
    }
    assert held_out.document_of.max() < len(dataset.validation.documents)


def test_the_documents_own_way_leaks_and_ours_does_not(cache_dir):
    leaking = load(OVERLAPPING, cache_dir)
    found = overlap(leaking.train, leaking.validation, **SHAPE)
    assert found.ngrams > 0.999
    assert found.windows > 0.99
    ours = load(OVERLAPPING.model_copy(update={"windows": "disjoint", "max_tokens": 500_000}), cache_dir)
    found = overlap(ours.train, ours.validation, **SHAPE)
    assert found.ngrams < 0.05
    assert found.windows < 0.01


def split_of(tokens, name="train") -> Split:
    return Split(name, np.asarray(tokens, dtype=np.uint16), ("d",), np.array([0, len(tokens)]))


def test_the_measure_counts_what_is_planted():
    random = np.random.default_rng(0)
    fresh, known = random.integers(0, 60_000, 16 * 30 + 1), random.integers(0, 60_000, 16 * 10 + 1)
    train = split_of(np.concatenate([random.integers(0, 60_000, 3_000_000), known, [1] * 20]))
    held_out = split_of(np.concatenate([known, fresh[1:]]), "validation")
    found = overlap(train, held_out, context_tokens=16)
    assert found.windows == 10 / 40
    assert found.ngrams == pytest.approx(10 / 40)
    two = Mixture("train", ("a", "b"), (train, split_of(fresh)), (0.5, 0.5))
    assert overlap(two, held_out, context_tokens=16).windows > 0.95
    assert overlap(split_of(fresh[:5]), held_out, context_tokens=4).ngrams < 0.01


def test_runs_across_the_pieces_it_reads_are_seen(monkeypatch):
    monkeypatch.setattr("blueberry.text.windows._CHUNK_TOKENS", 16)
    tokens = np.random.default_rng(0).integers(0, 60_000, 16 * 20 + 1)
    assert overlap(split_of(tokens), split_of(tokens, "validation"), context_tokens=16).ngrams == 1


def test_a_run_of_tokens_is_not_mistaken_for_its_rotation():
    held_out = split_of(list(range(33)), "validation")
    backwards = split_of(list(range(33))[::-1])
    assert overlap(backwards, held_out, context_tokens=16).ngrams == 0
