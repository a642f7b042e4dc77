"""The leak of text: planted copies are found, shared idioms are not."""

import dataclasses

import numpy as np
import pytest

from blueberry.judge.gather import MOST_SHARED_WINDOWS, WINDOW_TOKENS
from blueberry.settings import Data
from blueberry.text.dataset import load
from blueberry.text.windows import overlap

TEXT = Data(corpus="synthetic", tokenizer="byte", max_tokens=600_000, max_documents=2000)
PIECE_TOKENS = 4_000


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return load(TEXT, tmp_path_factory.mktemp("cache"))


def with_copies(text, share):
    """Training text in which pieces of the validation text stand, so many that they are a share of it."""
    held_out, tokens = np.asarray(text.validation.tokens), np.asarray(text.train.tokens).copy()
    for number in range(round(share * held_out.size / PIECE_TOKENS)):
        piece = held_out[number * PIECE_TOKENS : (number + 1) * PIECE_TOKENS]
        tokens[2 * number * PIECE_TOKENS :][: piece.size] = piece
    return dataclasses.replace(text.train, tokens=tokens)


def is_leak(train, held_out):
    return overlap(train, held_out, context_tokens=WINDOW_TOKENS).windows > MOST_SHARED_WINDOWS


def test_text_split_by_documents_is_quiet(text):
    assert not is_leak(text.train, text.validation)
    assert not is_leak(text.train, text.test)


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_copied_documents_are_found(text, share):
    assert is_leak(with_copies(text, share), text.validation)


def test_windows_split_at_random_are_found(tmp_path):
    leaking = load(TEXT.model_copy(update={"windows": "overlapping", "max_tokens": 50_000}), tmp_path)
    assert is_leak(leaking.train, leaking.validation)
