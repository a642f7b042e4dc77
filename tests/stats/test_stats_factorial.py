import itertools

import numpy as np
import pytest
from scipy import stats

from blueberry.stats.factorial import (
    aliases,
    best_combination,
    factor_to_fold,
    factorial_effects,
    is_regular,
    pair_effects,
    single_run_effects,
)
from blueberry.stats.noise import Borrowed

FULL3 = np.array(list(itertools.product((-1, 1), repeat=3)))[:, ::-1]  # the first factor fastest
INF, NAN = float("inf"), float("nan")


def fraction_6_2():
    """The 16-run resolution-IV fraction of six factors: E = ABC, F = BCD (Box, Hunter and Hunter, table 6.22)."""
    base = np.array(list(itertools.product((-1, 1), repeat=4)))
    a, b, c, d = base.T
    return np.column_stack([base, a * b * c, b * c * d])


def by_factors(effects):
    return {effect.factors: effect for effect in effects}


def test_a_published_factorial():
    """The pilot plant of Box, Hunter and Hunter (2nd ed., table 5.2): temperature, concentration, catalyst."""
    averages = np.array([60.0, 72, 54, 68, 52, 83, 45, 80])
    found = by_factors(factorial_effects(FULL3, averages[:, None], alpha=0.05))
    estimates = {factors: effect.pair.difference for factors, effect in found.items()}
    # Their interactions are half of AB - A - B + 0: 1.5, 10.0, 0.0.
    assert estimates == {(0,): 23.0, (1,): -5.0, (2,): 1.5, (0, 1): 3.0, (0, 2): 20.0, (1, 2): 0.0}


def test_two_by_two_by_hand_with_its_interval():
    signs = np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]])
    off, a, b, both = np.array([[3.0, 3.1, 3.2], [2.8, 2.9, 3.1], [2.9, 3.0, 3.0], [2.9, 3.1, 3.0]])
    found = by_factors(factorial_effects(signs, np.array([off, a, b, both]), alpha=0.05))
    interaction = both - a - b + off
    assert found[0, 1].pair.difference == pytest.approx(interaction.mean())
    main = (a + both - off - b) / 2
    assert found[0,].pair.difference == pytest.approx(main.mean())
    assert found[0,].pair.sd >= main.std(ddof=1) - 1e-12  # what is seen of a contrast counts where it is more
    assert found[0, 1].pair.sd >= interaction.std(ddof=1) - 1e-12
    pair = found[0,].pair
    assert min(effect.pair.p_value() for effect in found.values()) > 0.05 / 3
    half = stats.t.isf(0.05 / 3 / 2, pair.df) * pair.sd / 3**0.5
    assert found[0,].interval == pytest.approx((main.mean() - half, main.mean() + half))


def test_a_fraction_states_its_aliases():
    signs = fraction_6_2()
    assert is_regular(signs)
    assert aliases(signs, (0, 1)) == ((2, 4),)  # I = ABCE = BCDF = ADEF
    assert aliases(signs, (1, 2)) == ((0, 4), (3, 5))
    assert all(len(other) == 3 for other in aliases(signs, (0,)))
    found = factorial_effects(signs, np.zeros((16, 3)), alpha=0.05)
    assert [effect.factors for effect in found[:6]] == [(f,) for f in range(6)]
    assert len(found) == 6 + 7  # 15 two-factor interactions in 7 groups
    with_f = signs.copy()
    with_f[:, 5] *= -1
    assert aliases(with_f, (1, 2)) == aliases(signs, (1, 2))


def test_a_fraction_recovers_what_was_planted():
    signs = fraction_6_2()
    truth = 3 - 0.2 * signs[:, 0] + 0.1 * signs[:, 1] * signs[:, 3]
    rng = np.random.default_rng(3)
    values = truth[:, None] + rng.normal(size=4) + 0.01 * rng.normal(size=(16, 4))  # seeds differ far more than arms
    found = factorial_effects(signs, values, alpha=0.05)
    assert [effect.factors for effect in found if effect.is_significant] == [(0,), (1, 3)]
    assert by_factors(found)[0,].pair.difference == pytest.approx(-0.4, abs=0.02)
    assert by_factors(found)[1, 3].pair.difference == pytest.approx(0.4, abs=0.04)


def test_unbalanced_designs_are_no_factorial_but_have_their_pairs():
    signs = np.array([[-1, -1, -1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1], [1, 1, -1]])
    assert not is_regular(signs)
    values = np.array([3.0, 2.9, 2.8, 3.1, 2.65])[:, None] + np.array([0.0, 0.5, -0.2])
    found = by_factors(pair_effects(signs, values, alpha=0.05))
    assert {factors: round(effect.pair.difference, 9) for factors, effect in found.items()} == {
        (0,): -0.1,
        (1,): -0.2,
        (2,): 0.1,
        (0, 1): -0.05,
    }
    assert pair_effects(signs[1:], values[1:], alpha=0.05) == ()


def test_what_is_missing_or_diverged_is_not_made_up():
    values = np.array([[3.0, 3.1, NAN], [2.9, 3.0, 3.1], [2.8, 2.9, 3.0], [2.7, 2.8, 2.8]])
    signs = np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]])
    assert {effect.pair.n for effect in factorial_effects(signs, values, alpha=0.05)} == {2}
    values[1, 0] = INF
    diverged = factorial_effects(signs, values, alpha=0.05)
    assert {effect.pair.difference for effect in diverged} == {None}
    assert not any(effect.is_significant for effect in diverged)


def test_noise_is_scaled_to_the_contrast():
    values = np.random.default_rng(2).normal(size=(4, 400))
    signs = np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]])
    found = by_factors(factorial_effects(signs, values, alpha=0.05))
    assert found[0,].pair.sd == pytest.approx(1.0, rel=0.1)  # a mean of two differences
    assert found[0, 1].pair.sd == pytest.approx(2.0, rel=0.1)  # a difference of two


def test_any_false_effect_has_probability_alpha():
    rng = np.random.default_rng(1)
    signs = fraction_6_2()
    false = sum(
        any(effect.is_significant for effect in factorial_effects(signs, rng.normal(size=(16, 4)), alpha=0.05))
        for _ in range(60)
    )
    assert stats.binomtest(false, 60, 0.05, alternative="greater").pvalue > 0.01


FULL4 = np.array(list(itertools.product((-1, 1), repeat=4)))[:, ::-1]
CONVERSION = np.array([71.0, 61, 90, 82, 68, 61, 87, 80, 61, 50, 89, 83, 59, 51, 85, 78])
"""Of one run each (Box, Hunter and Hunter, table 5.10): catalyst, temperature, pressure, concentration."""


def test_a_published_factorial_of_single_runs():
    found = single_run_effects(FULL4, CONVERSION, alpha=0.05)
    assert [effect.pair.difference for effect in found.effects] == pytest.approx([-8.0, 24.0, -2.25, -5.5])
    assert [effect.is_significant for effect in found.effects] == [True, True, False, True]
    interactions = [1.0, 0.75, 0.0, -1.25, 4.5, -0.25, -0.75, 0.5, -0.25, -0.75, -0.25]  # as the book has them
    error = np.sqrt(np.square(interactions).mean())
    assert found.df == 11
    assert found.sd == pytest.approx(error * 2)  # of one run: an effect has 4 / 16 of its variance
    assert found.effects[2].pair.standard_error == pytest.approx(error)
    assert found.stands_out == (1, 3)  # temperature with concentration, which the book calls real
    half = stats.t.isf(0.05 / 4 / 2, 11) * error
    assert found.effects[1].interval == pytest.approx((24 - half, 24 + half))


def test_single_runs_name_what_is_noise():
    assert single_run_effects(FULL3, CONVERSION[:8], alpha=0.05).interactions == ((0, 1), (0, 2), (1, 2))
    fraction = fraction_6_2()
    found = single_run_effects(fraction, CONVERSION, alpha=0.05)
    assert (found.df, len(found.interactions)) == (9, 7)  # two further columns hold interactions of three alone
    assert [effect.aliases for effect in found.effects] == [aliases(fraction, (factor,)) for factor in range(6)]


def test_too_few_interactions_are_no_noise():
    two = np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]])
    assert single_run_effects(two, CONVERSION[:4], alpha=0.05) is None
    saturated = np.column_stack([FULL3, FULL3[:, 0] * FULL3[:, 1]])
    assert single_run_effects(saturated, CONVERSION[:8], alpha=0.05).df == 3
    confounded = np.column_stack([FULL3, FULL3[:, 0]])
    assert single_run_effects(confounded, CONVERSION[:8], alpha=0.05) is None


def test_single_runs_that_fit_exactly_are_certain():
    found = single_run_effects(FULL3, 3.0 + 0.5 * FULL3[:, 0], alpha=0.05)
    assert [effect.is_significant for effect in found.effects] == [True, False, False]
    assert found.stands_out is None


def test_all_intervals_of_single_runs_hold_at_once():
    rng = np.random.default_rng(6)
    truth = FULL4 @ np.full(4, 2.0)
    found = [single_run_effects(FULL4, truth + rng.normal(size=16), alpha=0.05).effects for _ in range(300)]
    held = sum(all(effect.interval[0] <= 4 <= effect.interval[1] for effect in effects) for effects in found)
    assert stats.binomtest(held, 300, 0.95, alternative="less").pvalue > 0.01


@pytest.mark.parametrize("interaction", [1.0, 4.0])
def test_an_interaction_makes_single_runs_say_less_and_nothing_false(interaction):
    rng = np.random.default_rng(5)
    truth = 2.0 * FULL4[:, 0] + interaction * FULL4[:, 0] * FULL4[:, 1]
    found = [single_run_effects(FULL4, truth + rng.normal(size=16), alpha=0.05).effects for _ in range(300)]
    false = sum(any(effect.is_significant for effect in effects[1:]) for effects in found)
    held = sum(all(e.interval[0] <= 4 * (e.factors == (0,)) <= e.interval[1] for e in effects) for effects in found)
    assert stats.binomtest(false, 300, 0.05, alternative="greater").pvalue > 0.01
    assert stats.binomtest(held, 300, 0.95, alternative="less").pvalue > 0.01


def test_borrowed_noise_judges_effects_of_single_runs():
    found = factorial_effects(FULL3, CONVERSION[:8, None], alpha=0.05, borrowed=Borrowed(2.0))
    assert found[0].pair.standard_error == pytest.approx(2.0 / np.sqrt(2))
    assert all(effect.pair.is_borrowed for effect in found)


def mixed(planted, *, noise=0.01, seed=0):
    """A fraction of six factors with main effects -0.2, 0.1 of the first two and an interaction; three seeds."""
    signs, rng = fraction_6_2(), np.random.default_rng(seed)
    means = -0.1 * signs[:, 0] + 0.05 * signs[:, 1] + planted * signs[:, 0] * signs[:, 3] / 4
    return signs, factorial_effects(signs, means[:, None] + noise * rng.normal(size=(16, 3)), alpha=0.05)


def test_a_fraction_is_folded_only_where_an_interaction_that_matters_is_mixed():
    _, effects = mixed(0.0)
    assert factor_to_fold(effects, least=0.02) is None
    signs, effects = mixed(-0.2)
    assert factor_to_fold(effects, least=0.5) is None, "smaller than what matters"
    factor = factor_to_fold(effects, least=0.02)
    folded = signs.copy()
    folded[:, factor] *= -1
    both = np.vstack([signs, folded])
    assert is_regular(both)
    assert not [other for other in aliases(both, (0, 3)) if len(other) == 2], "the two are told apart"


def test_the_best_combination_follows_from_significant_effects():
    _, effects = mixed(0.0)
    assert best_combination(effects, 6) == (0,)
    full = np.array(list(itertools.product((-1, 1), repeat=3)))
    rng = np.random.default_rng(1)
    means = 0.02 * full[:, 0] + 0.02 * full[:, 1] - 0.1 * full[:, 0] * full[:, 1]
    effects = factorial_effects(full, means[:, None] + 0.005 * rng.normal(size=(8, 3)), alpha=0.05)
    assert best_combination(effects, 3) == (), "both together and none are alike but for what each costs"
    effects = factorial_effects(full, -means[:, None] + 0.005 * rng.normal(size=(8, 3)), alpha=0.05)
    assert best_combination(effects, 3) in ((0,), (1,))


def test_a_mixed_interaction_recommends_nothing():
    _, effects = mixed(-5.0)
    assert best_combination(effects, 6) == (0,)
