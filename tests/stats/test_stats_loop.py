"""Evidence that may be looked at after every run, against its definition; and what a loop does with it."""

from math import exp, inf, log, sqrt

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import nct, norm, t

from blueberry.stats.differences import spread
from blueberry.stats.loop import (
    MOST_RUNS,
    SCALES,
    Gap,
    Run,
    Tally,
    Trial,
    error_of_change,
    hindsight,
    interval_of,
    judge_change,
    kept_by_chance,
    log_e_value,
    log_evidence,
    more_runs,
    needed_sd,
)


def test_all_changes_together_spend_alpha():
    spent = sum(error_of_change(j, 0.05) for j in range(1, 200_001))
    assert 0.045 < spent < 0.05
    assert error_of_change(1, 0.05) > error_of_change(2, 0.05) > error_of_change(300, 0.05) > 0


@pytest.mark.parametrize("difference", [-2.0, -0.7, 0.4])
@pytest.mark.parametrize("df", [1, 4, 30])
def test_evidence_is_the_mean_likelihood_ratio_of_t_over_improvements(difference, df):
    gap = Gap(difference, 3, 2, 0.8, df)
    root = sqrt(gap.variance_factor)
    statistic = difference / (0.8 * root)

    def weighted(effect: float) -> float:
        ratio = nct.pdf(statistic, df, effect / root) / t.pdf(statistic, df)
        return float(sum(weight * 2 * norm.pdf(effect, scale=scale) for scale, weight in SCALES) * ratio)

    mean = sum(quad(weighted, low, high, limit=200)[0] for low, high in ((-150, -15), (-15, -3), (-3, 0)))
    assert exp(log_e_value(difference, 0.8, df, gap.variance_factor)) == pytest.approx(mean, rel=2e-3)


def test_known_noise_is_the_limit_of_many_degrees_of_freedom():
    for difference in (-0.004, -0.001, 0.002):
        known, nearly = (Gap(difference, 4, 3, 0.0013, df) for df in (inf, 1e7))
        assert log_evidence(known) == pytest.approx(log_evidence(nearly), abs=1e-4)


def test_one_run_of_each_and_no_noise_known_is_no_more_than_a_coin():
    assert log_evidence(Gap(-1e6, 1, 1, None, 0)) <= log(2)
    assert log_evidence(Gap(None, 0, 0, None, 0)) == 0.0


@pytest.mark.parametrize("sd", [None, 1.0])
@pytest.mark.parametrize("worse", [0.0, 0.5])
def test_a_change_that_is_none_is_seldom_shown_however_often_one_looks(sd, worse):
    generator = np.random.default_rng(3)
    alpha, loops, shown = 0.2, 200, 0
    for _ in range(loops):
        tally = Tally(sd)
        top = 0.0
        for look in range(10):
            for arm, level in (("a", 0.0), ("b", worse)):
                tally.add(Run(arm, level + generator.normal()))
                if look + (arm == "b") > 0:
                    top = max(top, log_evidence(tally.gap("a", "b")))
        shown += top >= -log(alpha)
    assert shown <= loops * alpha  # by Ville's inequality; it is far less, as improvements are all on one side


def runs(**values: list[float]) -> list[Run]:
    return [Run(arm, value) for arm, some in values.items() for value in some]


BASE = [1.0012, 1.0019, 1.0008, 1.0015]


def test_what_a_loop_is_told():
    def look(*values: float, sd: float | None = None):
        return judge_change(runs(a=BASE, b=list(values)), "a", "b", position=1, alpha=0.05, sd=sd)

    assert look(1.0030).decision == "discard"
    assert look(0.9900, sd=0.0005).decision == "keep"
    assert look(0.9990, 0.9985, 0.9992, 0.9988).decision == "keep"
    again = look(0.9995)
    assert again.decision == "run again"
    assert again.more_baseline + again.more_candidate > 0
    assert look(1.00132, sd=0.0005).decision == "discard"  # better by a twentieth of a sd: not worth the runs


def test_the_interval_lies_below_0_exactly_where_a_change_is_kept():
    for value in np.linspace(0.9950, 1.0030, 41):
        look = judge_change(runs(a=BASE, b=[value, value + 4e-4]), "a", "b", position=2, alpha=0.05)
        assert (look.interval is not None and look.interval[1] < 0) == (look.decision == "keep")


def test_more_runs_keep_their_word():
    threshold = -log(error_of_change(3, 0.05))
    for difference in (-0.0010, -0.0015, -0.0030):
        more = more_runs(Gap(difference, 4, 1, 0.0005, 20), threshold)
        assert more is not None
        grown = Gap(difference, 4 + more[0], 1 + more[1], 0.0005, 20 + sum(more))
        assert log_evidence(grown) >= threshold
        assert max(grown.num_baseline, grown.num_candidate) <= MOST_RUNS
    assert more_runs(Gap(-0.0005, 4, 1, 0.0005, 20), threshold) is not None  # it might be one standard error better
    assert more_runs(Gap(-0.0001, 4, 4, 0.0005, 20), threshold) is None


def test_where_nothing_tells_the_noise_the_baseline_is_run_first():
    look = judge_change(runs(a=[1.0], b=[0.99]), "a", "b", position=1, alpha=0.05)
    assert (look.decision, look.more_baseline, look.more_candidate) == ("run again", 3, 0)
    assert look.interval is None


def test_repeats_with_one_result_tell_no_noise():
    look = judge_change(runs(a=[1.0] * 5, b=[0.9] * 5), "a", "b", position=1, alpha=0.05)
    assert look.decision == "run again"
    assert look.gap.sd is None


def test_the_same_seed_again_counts_for_nothing():
    tally = Tally()
    assert tally.add(Run("a", 1.0, 7))
    assert not tally.add(Run("a", 1.1, 7))
    assert tally.add(Run("a", 1.1, 8))
    assert tally.values("a") == [1.0, 1.1]


def test_shared_seeds_pair():
    generator = np.random.default_rng(0)
    blocks = generator.normal(0, 1, 8)
    rest = generator.normal(0, 0.01, (2, 8))
    some = [Run("a", 3 + blocks[s] + rest[0, s], s) for s in range(8)]
    some += [Run("b", 2.95 + blocks[s] + rest[1, s], s) for s in range(8)]
    look = judge_change(some, "a", "b", position=1, alpha=0.05)
    assert look.gap.paired
    assert look.decision == "keep"
    apart = [Run(run.arm, run.value, run.seed if run.arm == "a" else 100 + (run.seed or 0)) for run in some]
    look = judge_change(apart, "a", "b", position=1, alpha=0.05)
    assert not look.gap.paired
    assert look.decision != "keep"


def test_a_noisy_candidate_is_judged_by_its_own_noise():
    quiet = {f"arm{k}": [1.0, 1.001, 0.999] for k in range(6)}
    some = runs(**quiet, a=[1.0, 1.001, 0.999], b=[1.05, 0.95, 0.96, 1.02])
    look = judge_change(some, "a", "b", position=7, alpha=0.05)
    assert look.gap.sd is not None
    assert look.gap.sd > 0.02


def test_once_kept_stays_kept():
    some = runs(a=BASE, b=[0.9900, 0.9901, 0.9903])
    assert judge_change(some, "a", "b", position=1, alpha=0.05).decision == "keep"
    look = judge_change([*some, Run("b", 1.02)], "a", "b", position=1, alpha=0.05)
    assert look.decision == "keep"
    assert look.gap.num_candidate < 4


def test_needed_sd_is_where_a_gain_is_just_kept():
    gap, error = Gap(-0.002, 1, 1, None, 0), error_of_change(4, 0.05)
    sd = needed_sd(gap, error)
    assert sd is not None
    assert (
        log_evidence(Gap(-0.002, 1, 1, sd * 0.99, inf)) > -log(error) > log_evidence(Gap(-0.002, 1, 1, sd * 1.01, inf))
    )
    assert needed_sd(Gap(0.002, 1, 1, None, 0), error) is None


def test_the_interval_is_where_the_evidence_against_each_value_ends():
    gap = Gap(-0.003, 5, 4, 0.001, 7)
    ends = interval_of(gap, 0.01)
    assert ends is not None
    assert ends[0] < -0.003 < ends[1]
    assert log_evidence(gap, shift=-ends[1]) == pytest.approx(log(100), abs=1e-6)


def looped(generator: np.random.Generator, effects: np.ndarray) -> tuple[Trial, list[Trial], float]:
    """Single runs, sd 1, the lower is kept; and what was really gained."""
    level, best = 0.0, float(generator.normal())
    first, changes = Trial(best, 1, True), []
    for effect in effects:
        value = float(generator.normal(level + effect))
        changes.append(Trial(value, 1, value < best))
        if value < best:
            level, best = level + float(effect), value
    return first, changes, level


def test_in_hindsight_as_many_are_null_as_there_are_and_the_gain_is_what_it_was():
    generator = np.random.default_rng(5)
    expected = found = 0.0
    told, gained, claimed = [], [], []
    for _ in range(12):
        effects = np.where(generator.random(60) < 0.1, -generator.uniform(1, 3, 60), 0.0)
        first, changes, gain = looped(generator, effects)
        seen = hindsight(first, changes, 1.0)
        kept = np.array([one.kept for one in changes])
        expected += float(np.array(seen.chances_of_null)[kept].sum())
        found += float((effects[kept] >= 0).sum())
        told, gained = [*told, seen.gain], [*gained, gain]
        claimed.append(min([first.value, *(one.value for one in changes)]) - first.value)
    assert expected == pytest.approx(found, rel=0.25)
    errors, flattered = np.subtract(told, gained), np.subtract(claimed, gained)
    assert abs(errors.mean()) < 0.5
    assert np.square(errors).mean() < np.square(flattered).mean() / 3


def test_hindsight_where_there_is_no_doubt():
    first = Trial(0.0, 8, True)
    seen = hindsight(first, [Trial(-4.0, 8, True), Trial(-4.0, 8, True), Trial(3.0, 8, False)], 1.0)
    assert seen.chances_of_null[0] < 0.01 < 0.5 < seen.chances_of_null[1]
    assert seen.chances_of_null[2] > 0.99
    assert seen.gain == pytest.approx(-4.0, abs=0.4)
    shifted = hindsight(Trial(7.0, 8, True), [Trial(6.96, 8, True), Trial(6.96, 8, True), Trial(7.03, 8, False)], 0.01)
    assert shifted.chances_of_null == pytest.approx(seen.chances_of_null, abs=0.02)
    assert shifted.gain == pytest.approx(seen.gain / 100, abs=2e-3)


@pytest.mark.parametrize("sds", [12, 130, 1e6])
def test_hindsight_of_changes_that_are_beyond_doubt(sds):
    first, tiny = Trial(3.0, 5, True), 0.001
    better, worse = Trial(3.0 - sds * tiny, 5, True), Trial(3.0 + sds * tiny, 5, False)
    again = Trial(better.value, 5, True)
    missed = Trial(better.value - sds * tiny, 5, False)
    seen = hindsight(first, [worse, better, again, missed], tiny)
    assert seen.chances_of_null[:2] == (1, 0)
    assert 0.5 < seen.chances_of_null[2] < 1
    assert seen.chances_of_null[3] == 0
    assert seen.gain == pytest.approx(-sds * tiny, abs=2 * tiny)
    spoilt = hindsight(first, [Trial(3.0 + sds * tiny, 5, True)], tiny)  # kept although it is worse
    assert spoilt.chances_of_null == (1,)
    assert spoilt.gain == pytest.approx(sds * tiny, abs=2 * tiny)


def test_hindsight_of_large_improvements_one_after_another_and_of_values_that_hardly_differ():
    falling = [Trial(10 - 0.0097 * place, 1, True) for place in range(300)]
    seen = hindsight(falling[0], falling[1:], 0.001)
    assert max(seen.chances_of_null) < 0.01
    assert seen.gain == pytest.approx(-0.0097 * 299, abs=0.01)
    equal = hindsight(Trial(3.2, 1, True), [Trial(3.2, 1, True), Trial(3.2, 60, False)], 1e-17)
    assert min(equal.chances_of_null) > 0.5
    assert equal.gain == pytest.approx(0, abs=1e-16)


def test_enormous_improvements_tell_nothing_of_how_many_small_ones_there_are():
    generator = np.random.default_rng(3)
    few, many = [], []
    for size in (0.0, 40.0):
        told = few if not size else many
        for _ in range(10):
            effects = np.zeros(60)
            effects[::6] = -size
            first, changes, _ = looped(generator, effects)
            seen = hindsight(first, changes, 1.0)
            null = [chance for one, chance, effect in zip(changes, seen.chances_of_null, effects, strict=True)
                    if one.kept and not effect]  # fmt: skip
            told.append(np.mean(null))
    assert np.mean(few) > 0.8
    assert np.mean(many) > 0.8


def test_what_a_loop_keeps_by_chance():
    assert kept_by_chance(0) == 0
    assert kept_by_chance(2) == pytest.approx(1 / 2 + 1 / 3)
    generator = np.random.default_rng(1)
    values = generator.normal(size=(4000, 21))
    records = (values[:, 1:] < np.minimum.accumulate(values, axis=1)[:, :-1]).sum(axis=1)
    assert records.mean() == pytest.approx(kept_by_chance(20), rel=0.05)


def test_spread_is_the_sd_of_most_values():
    values = [*np.random.default_rng(0).normal(0, 1, 400), 50.0, 60.0]
    assert spread(values) == pytest.approx(1.0, rel=0.15)
    assert spread([1.0, 2.0]) is None


@pytest.mark.parametrize("lucky", ["candidate", "baseline", "pair"])
def test_no_change_is_kept_for_one_run_that_is_far_off(lucky):
    base, cand = [1.000, 1.001, 0.999, 1.000], [1.001, 0.999, 1.000, 1.000]
    seeds = range(4) if lucky == "pair" else [None] * 4
    (base if lucky == "baseline" else cand)[2] += 0.5 if lucky == "baseline" else -0.5
    runs = [Run("base", value, seed) for value, seed in zip(base, seeds, strict=True)]
    runs += [Run("new", value, seed) for value, seed in zip(cand, seeds, strict=True)]
    known = {} if lucky == "pair" else {"sd": 0.001}
    look = judge_change(runs, "base", "new", position=1, alpha=0.05, **known)
    assert look.decision != "keep"
    assert look.interval is None or look.interval[1] >= 0
    if known:
        tally = Tally(0.001)
        for run in runs:
            tally.add(run)
        gap = tally.gap("base", "new")
        assert log_e_value(gap.difference or 0.0, 0.001, inf, gap.variance_factor) > 100


def test_one_run_of_each_is_kept_where_tails_as_heavy_as_t3_would_not_do_it():
    sizes = np.arange(3, 40, 0.5)
    least = next(size for size in sizes if log_evidence(Gap(-size, 1, 1, 1.0, inf)) > log(500))
    assert t.sf(least * sqrt(3 / 2), 3) < 1 / 500 < t.sf((least - 0.5) * sqrt(3 / 2), 3)


def test_the_interval_lies_below_0_exactly_where_a_change_is_kept_under_heavy_tails_too():
    generator = np.random.default_rng(5)
    num_kept = 0
    for _ in range(60):
        values = [float(value) for value in generator.standard_t(3, 8) - [0, 0, 0, 0, 8, 8, 8, 8]]
        tally = Tally()
        for place, value in enumerate(values):
            tally.add(Run("new" if place > 3 else "base", value))
            gap = tally.gap("base", "new")
            if gap.difference is None:
                continue
            ends, shown = interval_of(gap, 0.01), log_evidence(gap) >= -log(0.01)
            assert (ends is not None and ends[1] < 0) == shown
            assert ends is None or ends[0] < gap.difference < ends[1]
            num_kept += shown
    assert 20 < num_kept < 220


def test_a_change_that_hangs_on_one_run_is_not_run_again_for_ever():
    base, cand = [0.0, 0.1] * MOST_RUNS, [0.0, 0.1] * MOST_RUNS
    runs = [Run("base", value) for value in base] + [Run("new", value) for value in [*cand, -50.0]]
    assert judge_change(runs, "base", "new", position=1, alpha=0.05, sd=0.2).decision == "discard"
