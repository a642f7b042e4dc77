import itertools
from dataclasses import replace

import pytest

from blueberry.study.arms import Design, combine, fold_over

SIX = ("a", "b", "c", "d", "e", "f")


def contrast(design: Design, effect: tuple[str, ...]) -> tuple[int, ...]:
    """One sign an arm: the product over the effect's changes of +1 where the arm holds it, -1 where not."""
    signs = []
    for arm in design.arms:
        sign = 1
        for change in effect:
            sign *= 1 if change in arm else -1
        signs.append(sign)
    return tuple(signs)


def test_single_pairs_and_full() -> None:
    assert combine("abc", "none").arms == ((), ("a",), ("b",), ("c",))
    assert combine("abc", "pairs").arms[4:] == (("a", "b"), ("a", "c"), ("b", "c"))
    assert len(combine("abcd", "full").arms) == 16
    assert combine("abc", "full").arms[-1] == ("a", "b", "c")


@pytest.mark.parametrize(("num", "num_arms"), [(4, 8), (5, 16), (6, 16), (7, 16), (8, 16), (9, 32), (11, 32)])
def test_a_fraction_mixes_no_change_with_what_two_do_together(num: int, num_arms: int) -> None:
    names = tuple("abcdefghijk"[:num])
    design = combine(names, "fraction")
    assert len(design.arms) == num_arms
    assert design.arms[0] == (), "the unchanged recipe is among them"
    assert len(set(design.arms)) == num_arms
    singles = [contrast(design, (name,)) for name in names]
    assert all(sum(signs) == 0 for signs in singles), "each change is in half of the arms"
    pairs = {pair: contrast(design, pair) for pair in itertools.combinations(names, 2)}
    for number, single in enumerate(singles):
        for other in [*singles[:number], *pairs.values()]:
            assert sum(a * b for a, b in zip(single, other, strict=True)) == 0


@pytest.mark.parametrize("num", [4, 5, 6, 8])
def test_aliases_are_exactly_the_effects_with_one_contrast(num: int) -> None:
    names = SIX[:num] if num <= 6 else tuple("abcdefgh")
    design = combine(names, "fraction")
    by_contrast: dict[tuple[int, ...], list[tuple[str, ...]]] = {}
    for effect in itertools.chain(itertools.combinations(names, 1), itertools.combinations(names, 2)):
        by_contrast.setdefault(contrast(design, effect), []).append(effect)
    assert sorted(map(sorted, design.aliases)) == sorted(
        sorted(group) for group in by_contrast.values() if len(group) > 1
    )
    if num == 5:
        assert design.aliases == ()


def test_too_few_or_too_many_changes_are_refused() -> None:
    with pytest.raises(ValueError, match='4 to 16 changes; use "full"'):
        combine("abc", "fraction")
    with pytest.raises(ValueError, match="4 to 16 changes; leave some out"):
        combine([str(number) for number in range(17)], "fraction")
    assert len(combine([str(number) for number in range(140)], "pairs").arms) == 9_871
    with pytest.raises(ValueError, match="at most 140 changes"):
        combine([str(number) for number in range(5_000)], "pairs")
    with pytest.raises(ValueError, match='at most 12 changes; use "fraction"'):
        combine([str(number) for number in range(13)], "full")


def test_a_fold_over_doubles_a_fraction_and_parts_what_it_mixed() -> None:
    design = combine(SIX, "fraction")
    both = replace(design, arms=design.arms + fold_over(design, "a"))
    assert len(set(both.arms)) == 32
    for one, other in itertools.chain(*(itertools.combinations(group, 2) for group in design.aliases)):
        dot = sum(x * y for x, y in zip(contrast(both, one), contrast(both, other), strict=True))
        assert dot == (0 if ("a" in one) != ("a" in other) else 32)
