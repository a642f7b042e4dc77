"""The leak of text: planted copies are found, shared idioms are not."""

import dataclasses

import numpy as np
import pytest

from blueberry.judge.doctor.leaks import leak
from blueberry.settings import Data
from blueberry.text import load

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


def test_text_split_by_documents_is_quiet(text):
    assert leak(text.train, text.validation, "validation") == []
    assert leak(text.train, text.test, "test") == []


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_copied_documents_are_found(text, share):
    (finding,) = leak(with_copies(text, share), text.validation, "validation")
    assert (finding.audit, finding.severity) == ("leak", "block")


def test_windows_split_at_random_are_found(tmp_path):
    leaking = load(TEXT.model_copy(update={"windows": "overlapping", "max_tokens": 50_000}), tmp_path)
    (finding,) = leak(leaking.train, leaking.validation, "validation")
    assert "validation windows" in finding.message
