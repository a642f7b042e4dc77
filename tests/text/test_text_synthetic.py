"""The synthetic language is what its docstring says, to the bit."""

import hashlib
import lzma

import numpy as np
import pytest

from blueberry.text.corpus import ENTROPY_BITS_PER_BYTE, LANGUAGE, LETTERS, successors
from blueberry.text.corpus import synthetic_documents as documents

LOG2_SD = 1.34
"""Standard deviation of one letter's surprisal under eight dyadic probabilities, bits."""


def surprisal_bits(document: bytes) -> np.ndarray:
    """What each byte of a document costs one who knows the language: float64, as long as the document.

    Infinite where the language does not allow the letter.
    """
    letters = np.array([0, 0, *(LETTERS.index(letter) for letter in document)])
    is_successor_TK = successors()[letters[:-2] * len(LETTERS) + letters[1:-1]] == letters[2:, None]
    bits_K = np.array([1, 2, 3, 4, 5, 6, 7, 7], dtype=np.float64)
    return np.where(is_successor_TK, bits_K, np.inf).min(axis=1, initial=np.inf)


@pytest.fixture(scope="module")
def sample() -> list[bytes]:
    return documents(range(300))


@pytest.fixture(scope="module")
def bits(sample: list[bytes]) -> list[np.ndarray]:
    """What each byte of each document of the sample costs."""
    return [surprisal_bits(document) for document in sample]


def test_the_language_is_the_same_on_every_machine():
    written = b"".join(documents([0, 1, 2_000_000]))
    assert hashlib.sha256(written).hexdigest()[:16] == "1146c0b52650a584"
    assert written.startswith(b"taqh exorsuualfieebsi taoleieo")


def test_letters_follow_the_recipe_of_the_docstring():
    """A plain-integer reading of it, without arrays but for the table."""
    table = successors().tolist()
    for index in (0, 5):
        shake = hashlib.shake_256(f"{LANGUAGE}/{index}".encode()).digest(4000)
        num_letters = 1024 + int.from_bytes(shake[:2], "little") % 2048
        letters = [0, 0]
        for byte in shake[2 : 2 + num_letters]:
            rank = 0
            while rank < 7 and not byte >> rank & 1:
                rank += 1
            letters.append(table[27 * letters[-2] + letters[-1]][rank])
        assert documents([index]) == [bytes(LETTERS[letter] for letter in letters[2:])]


def test_a_document_depends_on_its_index_alone(sample):
    assert documents([17]) == [sample[17]]
    assert documents([299, 3, 17]) == [sample[299], sample[3], sample[17]]
    assert documents([]) == []


def test_documents_differ_and_have_the_lengths_that_were_said(sample):
    sizes = [len(document) for document in sample]
    assert len(set(sample)) == len(sample)
    assert 1024 <= min(sizes) < 1100
    assert 3000 < max(sizes) <= 3071
    assert set(b"".join(sample)) == set(LETTERS)
    assert b"  " not in b"".join(sample)


def test_entropy_is_that_of_the_probabilities():
    p = np.array([2.0**-k for k in (1, 2, 3, 4, 5, 6, 7, 7)])
    assert p.sum() == 1
    assert -(p * np.log2(p)).sum() == ENTROPY_BITS_PER_BYTE
    variance = (p * np.log2(p) ** 2).sum() - ENTROPY_BITS_PER_BYTE**2
    assert np.sqrt(variance) == pytest.approx(LOG2_SD, abs=0.005)


def test_every_context_has_eight_different_successors():
    table = successors()
    assert table.shape == (27 * 27, 8)
    assert all(len(set(row)) == 8 for row in table.tolist())
    assert not (table[::27] == 0).any(), "no space follows a space"


def test_cost_under_the_true_model_is_the_entropy_everywhere_and_at_each_position(bits):
    for costs in (np.concatenate(bits), *(np.array([one[position] for one in bits]) for position in (0, 1, 2, 700))):
        assert costs.mean() == pytest.approx(ENTROPY_BITS_PER_BYTE, abs=4 * LOG2_SD / np.sqrt(costs.size))


def test_counting_letters_finds_the_same_entropy():
    """Independent of the tables: the plug-in entropy of a letter given two, from counts of triples."""
    text = np.frombuffer(b"".join(documents(range(1000))), dtype=np.uint8).astype(np.int64) - 32
    pairs, triples = (
        np.unique(sum(text[k : text.size - 2 + k] * 96**k for k in range(order)), return_counts=True)[1] / text.size
        for order in (2, 3)
    )
    conditional = -(triples * np.log2(triples)).sum() + (pairs * np.log2(pairs)).sum()
    # Counts from 2 MB flatter by about (8 - 1) * 729 / (2 ln 2 * 2e6) = .002; joints of documents cost a little.
    assert conditional == pytest.approx(ENTROPY_BITS_PER_BYTE, abs=0.01)


def test_no_compressor_beats_the_entropy(sample):
    text = b"".join(sample)
    assert 8 * len(lzma.compress(text, preset=6)) / len(text) > ENTROPY_BITS_PER_BYTE


def test_surprisal_of_what_the_language_cannot_say():
    assert surprisal_bits(b"").shape == (0,)
    assert np.isinf(surprisal_bits(b"a  b")).any()


def test_successor_probabilities_match_their_frequencies(bits):
    costs = np.concatenate(bits)
    for cost, probability in [(1, 0.5), (2, 0.25), (3, 0.125), (7, 2 / 128)]:
        sd = np.sqrt(probability * (1 - probability) / costs.size)
        assert (costs == cost).mean() == pytest.approx(probability, abs=4 * sd)


def test_a_document_can_be_had_beyond_any_default_number():
    assert len(documents([10**12])[0]) >= 1024
