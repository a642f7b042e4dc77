"""Several corpora at once: fixed proportions, passes of their own, sets by name."""

import numpy as np
import pytest

from blueberry.errors import DataError
from blueberry.settings import Data, Files, MixturePart, NamedSet
from blueberry.text.dataset import Mixture, Split, data_digest, load
from blueberry.text.windows import CYCLE, batch, evaluation_set, require_a_batch


def mixture(sizes, shares) -> Mixture:
    """Token i of corpus c is 10,000 c + i, so that a window says where it came from."""
    parts = tuple(
        Split("train", np.arange(size, dtype=np.uint32) + 10_000 * number, ("d",), np.array([0, size]))
        for number, size in enumerate(sizes)
    )
    return Mixture("train", tuple("abc"[: len(parts)]), parts, shares)


def run(mixed, updates, *, seed=0, batch_sequences=5):
    shape = {"batch_sequences": batch_sequences, "context_tokens": 7}
    return np.concatenate([batch(mixed, seed=seed, update=update, **shape) for update in updates])


def test_windows_come_in_fixed_proportions_and_whole_from_one_corpus():
    windows = run(mixture((3000, 1000, 400), (0.7, 0.25, 0.05)), range(2 * CYCLE // 5))
    assert (np.diff(windows, axis=1) == 1).all()
    corpora = windows[:, 0] // 10_000
    for cycle in corpora.reshape(2, CYCLE):
        assert np.bincount(cycle).tolist() == [700, 250, 50]
    assert len(set(corpora[:40])) == 3, "they take turns, not blocks"


def test_each_corpus_has_passes_of_its_own():
    mixed = mixture((631, 211), (0.8, 0.2))  # 90 and 30 windows, neither of which divides a cycle
    windows = run(mixed, range(2 * CYCLE // 5))
    for number, num_windows in ((0, 90), (1, 30)):
        starts = windows[windows[:, 0] // 10_000 == number][:, 0] % 10_000 // 7
        for first in range(0, len(starts) - num_windows + 1, num_windows):
            assert sorted(starts[first : first + num_windows]) == list(range(num_windows))


def test_a_batch_is_a_function_of_seed_and_update():
    mixed = mixture((3000, 1000), (0.6, 0.4))
    in_order = run(mixed, range(450))  # beyond a cycle
    np.testing.assert_array_equal(in_order[-5:], run(mixed, [449]))
    np.testing.assert_array_equal(in_order[:1000], run(mixed, range(10), batch_sequences=100))
    other = run(mixed, range(450), seed=1)
    assert (in_order[:, 0] // 10_000 != other[:, 0] // 10_000).mean() > 0.3, "whose turn it is"
    firsts = [windows[windows[:, 0] < 10_000][:400, 0] for windows in (in_order, other)]
    assert (firsts[0] != firsts[1]).mean() > 0.9, "and which window"


def test_shares_are_rounded_to_a_whole_cycle_and_none_vanishes():
    windows = run(mixture((3000, 3000, 3000), (1 / 3, 1 / 3, 1 / 3)), range(CYCLE // 5))
    assert sorted(np.bincount(windows[:, 0] // 10_000)) == [333, 333, 334]
    with pytest.raises(DataError, match=r"^data\.mixture\.b\.weight: its share is 1e-05; the least is 0\.001; "):
        run(mixture((3000, 3000), (0.99999, 0.00001)), [0])


def test_evaluation_of_a_mixture_keeps_the_proportions_and_the_names():
    held_out = evaluation_set(mixture((3000, 1000), (0.75, 0.25)), context_tokens=7, num_tokens=280)
    assert np.bincount(held_out.windows[:, 0] // 10_000).tolist() == [30, 10]
    assert held_out.documents == ("a/d", "b/d")
    np.testing.assert_array_equal(held_out.document_of, np.repeat(held_out.windows[:, :1] // 10_000, 7, axis=1))
    other = evaluation_set(mixture((3000, 1000), (0.25, 0.75)), context_tokens=7, num_tokens=280)
    assert other.digest != held_out.digest


@pytest.mark.parametrize(
    ("split", "most", "said"),
    [
        (mixture((841,), (1.0,)).parts[0], 120, "holds 120 windows of 7 tokens, fewer than one update takes"),
        (mixture((841,), (1.0,)), 120, "of a holds 120 windows of 7 tokens, fewer than its share of 1 of one"),
        (mixture((701, 141), (0.8, 0.2)), 100, "of b holds 20 windows of 7 tokens, fewer than its share of 0.2 of one"),
        (mixture((36, 701), (0.9, 0.1)), 5, "of a holds 5 windows of 7 tokens, fewer than its share of 0.9 of one"),
    ],
)
def test_an_update_larger_than_the_corpus_or_than_a_part_of_it_is_refused(split, most, said):
    require_a_batch(split, batch_sequences=most, context_tokens=7)
    with pytest.raises(DataError) as caught:
        require_a_batch(split, batch_sequences=most + 1, context_tokens=7)
    assert str(caught.value).startswith(f"train.batch_sequences: {most + 1}; the training split {said}")


@pytest.fixture
def prose(tmp_path):
    for number in range(60):
        (tmp_path / f"{number}.txt").write_text(f"Prose number {number} says {number**3}. " * 150)
    return Files(paths=(f"{tmp_path}/*.txt",))


def test_a_mixture_and_its_sets_are_loaded(prose, tmp_path):
    data = Data(
        corpus="mixture",
        mixture={
            "letters": MixturePart(corpus="synthetic", weight=3.0, max_documents=200),
            "prose": MixturePart(corpus="files", files=prose, weight=1.0),
        },
        sets={
            "held": NamedSet(corpus="files", files=prose),
            "all": NamedSet(corpus="files", files=prose, documents="all", max_characters=50),
        },
        vocabulary_tokens=300,
        test_fraction=0.1,
    )
    dataset = load(data, tmp_path / "cache")
    assert isinstance(dataset.train, Mixture)
    assert (dataset.train.names, dataset.train.shares) == (("letters", "prose"), (0.75, 0.25))
    assert set(dataset.sets) == {"letters", "prose", "held", "all"}
    assert len(dataset.sets["all"].documents) == 60
    # One text is in one split of every corpus, so what is measured was not trained on under another name.
    np.testing.assert_array_equal(dataset.sets["held"].tokens, dataset.sets["prose"].tokens)
    assert not set(dataset.sets["held"].documents) & set(dataset.train.parts[1].documents)
    assert len(dataset.train.parts[1].documents) > 30
    assert dataset.train_tokens == min(
        int(dataset.train.parts[0].tokens.size / 0.75), int(dataset.train.parts[1].tokens.size / 0.25)
    )
    assert any(b"Prose" in token or b"rose" in token for token in dataset.tokenizer.merged), "trained on both"
    assert any(token.isalpha() and b"rose" not in token for token in dataset.tokenizer.merged)
    weighed = data.mixture["prose"].model_copy(update={"weight": 2.0})
    again = data.model_copy(update={"mixture": {**data.mixture, "prose": weighed}})
    assert data_digest(again) == data_digest(data), "prepared once for all weights"


def test_a_mistake_within_a_mixture_is_named_there(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n')
    parts = {"rows": MixturePart(corpus="files", files=Files(paths=(f"{tmp_path}/a.jsonl",), text_column="body"))}
    with pytest.raises(DataError, match=r"set data\.mixture\.rows\.files\.text_column"):
        load(Data(corpus="mixture", mixture=parts), tmp_path / "cache")
    parts = {"rows": MixturePart(corpus="files", files=Files(paths=(f"{tmp_path}/none",)))}
    with pytest.raises(DataError, match=r"^data\.mixture\.rows\.files\.paths: "):
        data_digest(Data(corpus="mixture", mixture=parts))
