"""The order of training and the windows that are measured."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blueberry.errors import DataError
from blueberry.text.dataset import Split
from blueberry.text.windows import batch, count_windows, evaluation_set


def split_of_size(num_tokens: int, name="train") -> Split:
    """Token i is i, so that a window says where it came from."""
    starts = np.unique(np.array([0, num_tokens // 5, num_tokens // 2, num_tokens]))
    names = tuple(f"d{index}" for index in range(starts.size - 1))
    return Split(name, np.arange(num_tokens, dtype=np.uint16), names, starts)


def run(split, updates, *, seed=0, batch_sequences=3, context_tokens=7):
    shape = {"batch_sequences": batch_sequences, "context_tokens": context_tokens}
    return np.concatenate([batch(split, seed=seed, update=update, **shape) for update in updates])


def test_windows_are_consecutive_tokens():
    windows = run(split_of_size(1000), range(5))
    assert windows.dtype == np.int64
    assert windows.shape == (15, 8)
    assert (np.diff(windows, axis=1) == 1).all()
    assert (windows[:, 0] % 7 == 0).all()


@given(
    num_tokens=st.integers(9, 400),
    context_tokens=st.integers(2, 8),
    batch_sequences=st.integers(1, 9),
    seed=st.integers(0, 9),
)
def test_each_token_is_predicted_once_a_pass(num_tokens, context_tokens, batch_sequences, seed):
    split = split_of_size(num_tokens)
    num_windows = count_windows(split, context_tokens=context_tokens)
    num_updates = 2 * num_windows  # batch_sequences passes or more, and batches across the ends of passes
    windows = run(split, range(num_updates), seed=seed, batch_sequences=batch_sequences, context_tokens=context_tokens)
    for start in range(0, len(windows), num_windows):
        predicted = np.sort(windows[start : start + num_windows, 1:], axis=None)
        assert predicted.tolist() == list(range(1, num_windows * context_tokens + 1))
    assert num_tokens - 1 - num_windows * context_tokens < context_tokens


def test_a_batch_is_a_function_of_seed_and_update():
    split = split_of_size(1000)
    in_order = run(split, range(60))
    np.random.seed(5)
    backwards = np.concatenate([run(split, [update]) for update in reversed(range(60))][::-1])
    np.testing.assert_array_equal(in_order, backwards)


def test_batch_size_cuts_one_sequence_of_windows():
    split = split_of_size(1000)
    np.testing.assert_array_equal(run(split, range(12), batch_sequences=3), run(split, range(3), batch_sequences=12))


def test_seeds_and_passes_have_orders_of_their_own():
    split = split_of_size(1000)
    num_windows = count_windows(split, context_tokens=7)
    first = run(split, range(2 * num_windows), batch_sequences=1)[:, 0]
    other = run(split, range(2 * num_windows), batch_sequences=1, seed=1)[:, 0]
    orders = [first[:num_windows], first[num_windows:], other[:num_windows], other[num_windows:]]
    for a in range(4):
        assert (orders[a] != np.arange(num_windows) * 7).mean() > 0.9
        for b in range(a):
            assert (orders[a] != orders[b]).mean() > 0.9


def test_the_order_is_the_same_on_every_machine():
    firsts = run(split_of_size(1000), [0], batch_sequences=8)[:, 0] // 7
    assert firsts.tolist() == [130, 38, 73, 76, 29, 69, 140, 131]


@pytest.mark.parametrize("num_tokens", [1, 10, 70, 71, 699, 5000])
def test_evaluation_windows_are_spread_evenly(num_tokens):
    split = split_of_size(706, "validation")  # 100 windows of 7, and 5 tokens that no window reaches
    chosen = evaluation_set(split, context_tokens=7, num_tokens=num_tokens)
    places = chosen.windows[:, 0] // 7
    expected = min(-(-num_tokens // 7), 100)
    assert chosen.windows.shape == (expected, 8)
    assert chosen.document_of.shape == (expected, 7)
    assert (chosen.windows == places[:, None] * 7 + np.arange(8)).all()
    gaps = np.diff([*places, 100])
    assert gaps.max() - gaps.min() <= 1
    assert gaps.min() >= 1
    assert places[0] == 0


def test_every_predicted_token_knows_its_document():
    split = split_of_size(706, "test")
    chosen = evaluation_set(split, context_tokens=7, num_tokens=5000)
    for token, document in zip(chosen.windows[:, 1:].ravel(), chosen.document_of.ravel(), strict=True):
        assert split.document_starts[document] <= token < split.document_starts[document + 1]
    assert chosen.document_of.dtype == np.int64
    assert set(chosen.document_of.ravel()) == {0, 1, 2}
    assert chosen.documents == split.documents


def test_evaluation_digest_names_the_tokens():
    split = split_of_size(706)
    plain = evaluation_set(split, context_tokens=7, num_tokens=70)
    assert plain.digest == evaluation_set(split, context_tokens=7, num_tokens=64).digest
    changed = split.tokens.copy()
    changed[3] += 1
    others = [
        evaluation_set(split, context_tokens=7, num_tokens=77),
        evaluation_set(split, context_tokens=9, num_tokens=70),
        evaluation_set(
            Split("train", changed, split.documents, split.document_starts), context_tokens=7, num_tokens=70
        ),
    ]
    assert len({plain.digest, *(other.digest for other in others)}) == 4
    wide = [
        Split("train", split.tokens.astype(np.uint32) + n, split.documents, split.document_starts) for n in (0, 1 << 16)
    ]
    assert len({evaluation_set(one, context_tokens=7, num_tokens=70).digest for one in wide}) == 2


@pytest.mark.parametrize(("name", "remedy"), [("train", ""), ("validation", " or raise data.validation_fraction")])
def test_a_split_shorter_than_a_window_is_refused(name, remedy):
    split = split_of_size(64, name)
    message = (
        f"model.context_tokens: 64; the {name} split holds 64 tokens and a window needs 65; "
        f"lower model.context_tokens{remedy}"
    )
    for ask in (
        lambda: batch(split, seed=0, update=0, batch_sequences=1, context_tokens=64),
        lambda: evaluation_set(split, context_tokens=64, num_tokens=1),
    ):
        with pytest.raises(DataError) as caught:
            ask()
        assert str(caught.value) == message
    assert batch(split, seed=0, update=0, batch_sequences=2, context_tokens=63).shape == (2, 64)
