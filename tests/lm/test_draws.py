import pytest
import torch

from blueberry.lm.draws import Draws, _mix, _words
from tests.lm.conftest import keys_of


def kept(keys: torch.Tensor, site: int, num_elements: int, drop: float) -> torch.Tensor:
    """A mask (R, num_elements)."""
    mask = Draws(keys, drop).keep(site, torch.empty(keys.shape[1], num_elements))
    assert mask is not None
    return mask


def test_a_draw_depends_on_its_place_and_not_on_its_company():
    together = kept(keys_of((5, 9), 3, range(8)), 2, 100, 0.3)
    alone = kept(keys_of((9,), 3, range(4, 6)), 2, 100, 0.3)
    assert torch.equal(together.view(2, 8, 100)[1, 4:6], alone)


@pytest.mark.parametrize("other", [keys_of((6,), 3, range(2)), keys_of((5,), 4, range(2))])
def test_another_seed_or_update_draws_otherwise(other):
    first = kept(keys_of((5,), 3, range(2)), 2, 1000, 0.5)
    agree = (first == kept(other, 2, 1000, 0.5)).float().mean().item()
    assert agree == pytest.approx(0.5, abs=0.06)


def test_sites_and_sequences_differ():
    keys = keys_of((5,), 3, range(2))
    first, second = kept(keys, 2, 4000, 0.5)
    assert (first == second).float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert (first == kept(keys, 3, 4000, 0.5)[0]).float().mean().item() == pytest.approx(0.5, abs=0.03)


def test_kept_share_and_scale():
    keep = kept(keys_of(tuple(range(8)), 0, range(16)), 1, 2000, 0.1)
    assert (keep == 0).float().mean().item() == pytest.approx(0.1, abs=0.002)
    assert keep.mean().item() == pytest.approx(1.0, abs=0.003)
    assert keep.unique().numel() == 2


def test_normal_draws_are_standard_normal():
    normal = Draws(keys_of(tuple(range(8)), 0, range(16)), 0.0).normal(1, torch.empty(8, 16, 2000))
    assert normal is not None
    x = normal.flatten().double()
    assert x.mean().item() == pytest.approx(0, abs=0.01)
    assert x.std().item() == pytest.approx(1, abs=0.01)
    assert (x**4).mean().item() == pytest.approx(3, abs=0.1)
    assert (x.abs() > 1.96).double().mean().item() == pytest.approx(0.05, abs=0.003)
    assert torch.corrcoef(torch.stack((x[:-1], x[1:])))[0, 1].abs() < 0.01


@pytest.mark.parametrize(("rows", "elements"), [(3, 1), (3, 7), (5, 40_001), (1, 200_000)])
def test_numpy_and_torch_give_the_same_bits(rows, elements):
    """The CPU's way, block by block, and the way of other devices."""
    all_keys = keys_of((5,), 3, range(rows))
    keys = all_keys[2]
    counter = torch.arange(elements, dtype=torch.int32)
    words = _mix(_mix(counter) ^ keys[:, None])
    assert torch.equal(_words(keys, elements), words)
    halves = words.view(torch.int16)[:, :elements]
    keep = kept(all_keys, 2, elements, 0.25)
    assert torch.equal(keep != 0, halves >= 2**14 - 2**15)


def test_the_two_halves_of_a_hash_are_independent():
    first, second = kept(keys_of((5,), 3, range(1)), 2, 200_000, 0.5).view(-1, 2).unbind(1)
    assert (first == second).float().mean().item() == pytest.approx(0.5, abs=0.006)


def test_rows_keep_their_draws_in_any_order_and_company():
    together = Draws(keys_of((5, 9), 3, range(4)), 0.3)
    in_turn = together.keep_rows(1, torch.arange(2 * 4 * 6), 11)
    assert in_turn is not None
    assert (in_turn[:40] == in_turn[1:41]).float().mean().item() < 0.8
    order = torch.randperm(2 * 4 * 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(together.keep_rows(1, order, 11), in_turn[order])
    alone = Draws(keys_of((9,), 3, range(1, 3)), 0.3).keep_rows(1, torch.arange(12), 11)
    assert torch.equal(alone, in_turn[24 + 6 : 24 + 18])
