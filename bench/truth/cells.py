"""What is measured: every cell is one simulated kind of study, named, with its gates."""

from dataclasses import dataclass, replace
from typing import Literal

from bench.loops import CASES, NOISES
from bench.truth.doctoring import DEFECTS
from bench.truth.draws import Noise

ALPHA = 0.05
CURVATURES = (0.012, 0.03, 0.057)
"""Nats per squared unit of log rate: the range measured on public learning-rate surfaces."""
SDS_NATS = (0.0012, 0.005, 0.03)
RHOS = (0.0, 0.5, 0.9)
RATIOS = (0.5, 1.0, 2.0, 3.0, 8.0)
"""Of the curvature right of the optimum over that left of it."""
MIDDLE_CURVATURE, MIDDLE_SD = 0.03, 0.005
MIDDLE_NOISE = Noise(sd_nats=MIDDLE_SD)
NUM_RATES = 13

Bound = Literal["at most", "at least", "between"]


@dataclass(frozen=True)
class Gate:
    """A measure that must hold in the cell; judged by a one-sided binomial test of its count."""

    measure: str
    bound: Bound
    low: float
    high: float | None = None


FALSE_WINNERS = Gate("false winner", "at most", ALPHA)
FALSE_TIES = Gate("false tie", "at most", ALPHA)
BEST_KEPT = Gate("best dropped", "at most", ALPHA)
INTERVALS = Gate("intervals cover", "at least", 0.95)
INTERVALS_BESIDE = Gate("intervals of the best cover", "at least", 0.95)
"""Of a study with a baseline, whose arms are compared with that first."""
CONTRAST = Gate("contrast covers", "between", 0.93, 0.97)
OPTIMUM = Gate("optimum covered", "at least", 0.95)
BOUNDS = Gate("optimum statement true", "at least", 0.95)
LOOPS = Gate("null kept", "at most", ALPHA)


@dataclass(frozen=True)
class Cell:
    name: str
    """Unique; the seed of its random numbers, so that adding cells changes none."""
    table: str
    """Which of the page's tables it belongs to."""
    study: str
    """How it is measured: a key of studies.STUDIES."""
    gates: tuple[Gate, ...]
    surface: str | None = None
    """A sweep over this surface; None: named arms at `excess_nats`."""
    excess_nats: tuple[float, ...] = ()
    """Expected losses of named arms above the level; the first arm is the baseline when `has_baseline`."""
    has_baseline: bool = False
    spread_nats: float | None = None
    """Of a normal distribution that the true difference of two arms is drawn from."""
    curvature: float = MIDDLE_CURVATURE
    right_over_left: float = 1.0
    num_arms: int = NUM_RATES
    n: int = 3
    noise: Noise = MIDDLE_NOISE
    min_effect_nats: float = 0.005
    least_n: int | None = None
    """Runs of the arms go up from here to `n`, arm by arm, and begin anew; None: all have `n`."""
    seeds_apart: bool = False
    """Whether every arm has seeds of its own. `noise.rho` is 0 then."""
    is_borrowed: bool = False
    """Whether the judge is told the sd of the noise."""
    effects_nats: tuple[float, ...] = ()
    """Of a factorial whose arms were run once: what each change does; `num_arms` of them, or of a fraction."""
    interaction_nats: float = 0.0
    """What the first two changes do together beyond that, on the scale of a main effect."""
    most_replicates: int | None = None
    """Where a replicate takes long."""
    loop: tuple[str, str, str] | None = None
    """Of a loop that keeps and discards: its rule, its case and its noise, as `bench.loops` has them."""


def _sd(sd_nats: float) -> str:
    return f"sd {sd_nats:g}"


def _optimum(name: str, surface: str = "valley", **more) -> Cell:
    gates = (OPTIMUM, BOUNDS, BEST_KEPT)
    if "divergences" in name:
        gates = (OPTIMUM, BOUNDS)  # an arm that diverged once is out, also when it is the best: that is the rule
    return Cell(f"optimum/{name}", "optima", "optimum", gates, surface=surface, **more)


def _optima() -> list[Cell]:
    """Thirteen rates a factor of sqrt(2) apart, three seeds unless said otherwise."""
    cells = [
        _optimum(f"quadratic, curvature {c:g}, {_sd(sd)}", curvature=c, noise=Noise(sd_nats=sd))
        for c in CURVATURES
        for sd in SDS_NATS
    ]
    cells += [
        _optimum(f"lopsided, right {ratio:g} times as steep, {_sd(sd)}", right_over_left=ratio, noise=Noise(sd_nats=sd))
        for ratio in RATIOS
        if ratio != 1
        for sd in SDS_NATS
    ]
    cells += [
        _optimum(f"{surface}, {_sd(sd)}", surface, noise=Noise(sd_nats=sd))
        for surface in ("cliff", "plateau", "edge", "two valleys")
        for sd in SDS_NATS
    ]
    cells.append(_optimum(f"cliff, right 8 times as steep, {_sd(MIDDLE_SD)}", "cliff", right_over_left=8.0))
    noises = [(Noise(MIDDLE_SD, rho), f"rho {rho:g}") for rho in RHOS if rho != 0.5]
    noises += [(Noise(MIDDLE_SD, kind=kind), kind) for kind in ("t3", "growing", "divergences", "drift")]
    shapes = ((1.0, "quadratic"), (3.0, "lopsided, right 3 times as steep"))
    cells += [
        _optimum(f"{what}, {told}", right_over_left=ratio, noise=noise)
        for noise, told in noises
        for ratio, what in shapes
    ]
    cells += [_optimum(f"{what}, {_sd(MIDDLE_SD)}, 5 seeds", right_over_left=ratio, n=5) for ratio, what in shapes]
    cells.append(_optimum(f"quadratic, {_sd(MIDDLE_SD)}, 7 rates", num_arms=7))
    return cells


def _factorials() -> list[Cell]:
    """Changes in every combination, or a fraction of six in 16 arms, one run an arm."""
    act, sd = 3 * MIDDLE_SD, MIDDLE_SD
    cases = {
        "8 runs, nothing acts": (8, (0.0,) * 3, 0.0, Noise(sd)),
        "8 runs, all act by 3 sd": (8, (-act,) * 3, 0.0, Noise(sd)),
        "8 runs, two act by 3 sd and interact by 3": (8, (-act, -act, 0.0), act, Noise(sd)),
        "16 runs, nothing acts": (16, (0.0,) * 4, 0.0, Noise(sd)),
        "16 runs, nothing acts, t3": (16, (0.0,) * 4, 0.0, Noise(sd, kind="t3")),
        "16 runs, all act by 3 sd": (16, (-act,) * 4, 0.0, Noise(sd)),
        "16 runs, two act by 3 sd and interact by 1": (16, (-act, -act, 0.0, 0.0), act / 3, Noise(sd)),
        "16 runs, two act by 3 sd and interact by 3": (16, (-act, -act, 0.0, 0.0), act, Noise(sd)),
        "16 runs, one acts by min_effect, sd 0.0025": (16, (0.005, 0.0, 0.0, 0.0), 0.0, Noise(0.0025)),
        "16 of 64 runs, nothing acts": (16, (0.0,) * 6, 0.0, Noise(sd)),
        "16 of 64 runs, three act by 3 sd": (16, (-act,) * 3 + (0.0,) * 3, 0.0, Noise(sd)),
    }
    gates = (FALSE_WINNERS, FALSE_TIES, INTERVALS)
    return [
        Cell(
            f"factorial/{name}",
            "factorials",
            "factorial",
            gates,
            has_baseline=True,
            num_arms=num_arms,
            n=1,
            noise=noise,
            effects_nats=effects,
            interaction_nats=interaction,
        )
        for name, (num_arms, effects, interaction, noise) in cases.items()
    ]


def _sweeps() -> list[Cell]:
    """Verdicts between the rates of a sweep."""
    cases = {
        f"quadratic, {_sd(MIDDLE_SD)}": ("valley", 1.0, Noise(MIDDLE_SD)),
        "cliff": ("cliff", 1.0, Noise(MIDDLE_SD)),
        "plateau": ("plateau", 1.0, Noise(MIDDLE_SD)),
        "edge": ("edge", 1.0, Noise(MIDDLE_SD)),
        "two valleys": ("two valleys", 1.0, Noise(MIDDLE_SD)),
        "quadratic, t3": ("valley", 1.0, Noise(MIDDLE_SD, kind="t3")),
        "quadratic, growing": ("valley", 1.0, Noise(MIDDLE_SD, kind="growing")),
        "quadratic, divergences": ("valley", 1.0, Noise(MIDDLE_SD, kind="divergences")),
    }
    gates = (FALSE_WINNERS, FALSE_TIES, INTERVALS)
    return [
        Cell(f"sweep/{name}", "sweeps", "fixed", gates, surface=surface, right_over_left=ratio, noise=noise, num_arms=9)
        for name, (surface, ratio, noise) in cases.items()
    ]


def _null(num_arms: int, n: int, noise: Noise, told: str) -> Cell:
    gates = (FALSE_WINNERS, INTERVALS) if noise.kind == "divergences" else (FALSE_WINNERS, INTERVALS, BEST_KEPT)
    if num_arms == 2 and noise.kind == "gaussian":
        gates = (FALSE_WINNERS, CONTRAST, BEST_KEPT)
    name = f"null/{num_arms} arms, {n} seeds, {told}"
    return Cell(name, "nulls", "fixed", gates, excess_nats=(0.0,) * num_arms, num_arms=num_arms, n=n, noise=noise)


def _nulls() -> list[Cell]:
    cells = [_null(k, n, Noise(MIDDLE_SD), "rho 0.5") for k in (2, 5, 13) for n in (3, 5)]
    cells += [_null(k, 3, Noise(MIDDLE_SD, rho), f"rho {rho:g}") for k in (2, 8) for rho in (0.0, 0.9)]
    for kind in ("t3", "growing", "divergences", "drift"):
        cells += [_null(k, 3, Noise(MIDDLE_SD, kind=kind), kind) for k in (2, 8)]
    cells += [_null(13, n, Noise(MIDDLE_SD, kind="tenfold"), "tenfold noise in two arms") for n in (3, 5)]
    cells += [_null(2, n, Noise(MIDDLE_SD, kind="tenfold"), "tenfold noise in one arm") for n in (3, 5)]
    beside = [_null(k, n, Noise(MIDDLE_SD), "one a baseline") for k, n in ((3, 3), (4, 5), (13, 5))]
    return cells + [replace(cell, has_baseline=True, gates=(*cell.gates, INTERVALS_BESIDE)) for cell in beside]


def _unpaired() -> list[Cell]:
    """Arms that share no seed, that have unlike numbers of runs, or single runs on a noise that is known."""
    apart = Noise(MIDDLE_SD, rho=0.0)
    base = Cell("", "unpaired", "fixed", (FALSE_WINNERS, INTERVALS), seeds_apart=True, noise=apart)
    cells = []

    def add(told: str, excess: tuple[float, ...], n: int, **more) -> None:
        name = f"unpaired/{told}"
        cells.append(replace(base, name=name, excess_nats=excess, num_arms=len(excess), n=n, **more))

    for num_arms, n in ((2, 3), (2, 10), (2, 30), (4, 5), (13, 3), (25, 5)):
        add(f"{num_arms} equal arms, {n} runs", (0.0,) * num_arms, n)
    for num_arms in (4, 13):
        add(f"{num_arms} equal arms, 3 to 8 runs", (0.0,) * num_arms, 8, least_n=3)
        for n in (3, 10):
            noise = replace(apart, kind="tenfold")
            add(f"{num_arms} equal arms, {n} runs, tenfold noise in two", (0.0,) * num_arms, n, noise=noise)
    for n in (3, 10):
        add(f"2 equal arms, {n} runs, tenfold noise in one", (0.0, 0.0), n, noise=replace(apart, kind="tenfold"))
    for num_arms in (2, 13):
        add(f"{num_arms} equal arms, 1 run, noise known", (0.0,) * num_arms, 1, is_borrowed=True)
    for num_arms in (2, 4, 13):
        worse = (0.0, *(3 * MIDDLE_SD,) * (num_arms - 1))
        add(f"{num_arms} arms, one better by 3 sd, 5 runs", worse, 5)
    add("13 arms, one better by 3 sd, 5 runs, tenfold noise in two", (0.0, *(3 * MIDDLE_SD,) * 12), 5,
        noise=replace(apart, kind="tenfold"))  # fmt: skip
    add("2 arms, one better by 5 sd, 1 run, noise known", (0.0, 5 * MIDDLE_SD), 1, is_borrowed=True)
    return cells


def _ties() -> list[Cell]:
    """Arms that differ by exactly the smallest difference that matters: to call that a tie is false."""
    delta = 0.005
    cells = []
    for num_arms, n, sd in (
        (2, 3, 0.0012),
        (2, 5, 0.0025),
        (2, 8, 0.005),
        (5, 5, 0.0012),
        (5, 8, 0.0025),
        (13, 5, 0.0012),
    ):
        excess = (0.0,) + (delta,) * (num_arms - 1)
        gates = (FALSE_WINNERS, FALSE_TIES, BEST_KEPT, CONTRAST if num_arms == 2 else INTERVALS)
        cells.append(
            Cell(
                f"tie/{num_arms} arms, {n} seeds, {_sd(sd)}",
                "ties",
                "fixed",
                gates,
                excess_nats=excess,
                num_arms=num_arms,
                n=n,
                noise=Noise(sd_nats=sd),
                min_effect_nats=delta,
            )
        )
    return cells


def _contrasts() -> list[Cell]:
    """Two arms with a difference drawn anew each time."""
    cases = [(n, Noise(MIDDLE_SD, rho), f"rho {rho:g}") for n in (3, 5, 8) for rho in RHOS]
    cases += [(n, Noise(MIDDLE_SD, kind=kind), kind) for n in (3, 5) for kind in ("t3", "growing", "drift")]
    return [
        Cell(
            f"contrast/{n} seeds, {told}",
            "contrasts",
            "fixed",
            (FALSE_WINNERS, FALSE_TIES, BEST_KEPT, CONTRAST),
            num_arms=2,
            spread_nats=0.01,
            n=n,
            noise=noise,
        )
        for n, noise, told in cases
    ]


def _ablations() -> list[Cell]:
    """A baseline, two changes and both together, where each helps and together they cancel, add or vanish."""
    effects = {"cancel": (0.0, -0.01, -0.01, 0.0), "add": (0.0, -0.01, -0.01, -0.02), "one": (0.0, -0.01, 0.0, -0.01)}
    return [
        Cell(
            f"ablation/effects {what}, {_sd(sd)}",
            "ablations",
            "fixed",
            (FALSE_WINNERS, FALSE_TIES, INTERVALS, INTERVALS_BESIDE),
            excess_nats=excess,
            has_baseline=True,
            num_arms=4,
            n=5,
            noise=Noise(sd_nats=sd),
        )
        for what, excess in effects.items()
        for sd in (0.005, 0.015)
    ]


def _races() -> list[Cell]:
    """Seeds are added, by the schedule of looks, to the arms about which something is unsettled."""
    gates = (FALSE_WINNERS, FALSE_TIES, BEST_KEPT)
    arms = {
        "2 arms, equal": (0.0, 0.0),
        "2 arms, 1 sd apart": (0.0, 0.005),
        "2 arms, min_effect apart, sd 0.0025": (0.0, 0.005),
        "5 arms, equal": (0.0,) * 5,
        "5 arms, one better by 1 sd": (0.0, *(0.005,) * 4),
    }
    cells = [
        Cell(
            f"race/{name}",
            "races",
            "race",
            gates,
            excess_nats=excess,
            num_arms=len(excess),
            noise=Noise(sd_nats=0.0025 if "0.0025" in name else MIDDLE_SD),
            min_effect_nats=0.005 if "0.0025" in name else 0.004,
        )
        for name, excess in arms.items()
    ]
    sweeps = {
        "9 rates, quadratic": ("valley", 1.0, MIDDLE_NOISE),
        "9 rates, quadratic, growing": ("valley", 1.0, Noise(MIDDLE_SD, kind="growing")),
        "9 rates, lopsided, right 3 times as steep, t3": ("valley", 3.0, Noise(MIDDLE_SD, kind="t3")),
        "9 rates, plateau": ("plateau", 1.0, MIDDLE_NOISE),
    }
    return cells + [
        Cell(
            f"race/{name}",
            "races",
            "race",
            gates,
            surface=surface,
            right_over_left=ratio,
            num_arms=9,
            noise=noise,
        )
        for name, (surface, ratio, noise) in sweeps.items()
    ]


def _more() -> list[Cell]:
    """How often what was told to need N more seeds is settled after N more."""
    base = Cell("", "more", "more", (), num_arms=2, spread_nats=0.01, min_effect_nats=0.005)
    cells = [
        replace(base, name=f"more/{n} seeds, {_sd(sd)}", n=n, noise=Noise(sd_nats=sd))
        for n in (3, 5, 8)
        for sd in (0.005, 0.01)
    ]
    return [*cells, replace(base, name="more/3 seeds, t3", n=3, noise=Noise(sd_nats=0.005, kind="t3"))]


def _loops() -> list[Cell]:
    """Loops of 100 changes, each kept or discarded by one rule; those of the judge are promised to keep no null."""
    return [
        Cell(
            f"loop/{case}, {rule}" + ("" if noise == "Gaussian" else f", {noise} noise"),
            "loops",
            "loop",
            (LOOPS,) if rule.startswith("judge") else (),
            most_replicates=2_000,
            loop=(rule, case, noise),
        )
        for noise, rules in NOISES.items()
        for case in CASES
        for rule in rules
    ]


def _doctor() -> list[Cell]:
    """Tables of runs, clean and with one planted defect each."""
    alarms = Cell("doctor/clean", "clean", "clean", (Gate("false alarm", "at most", 0.05),))
    found = Gate("defect found", "at least", 1.0)
    return [
        alarms,
        *(Cell(f"doctor/{name}", "defects", "defect", (found,), most_replicates=1_000) for name in DEFECTS),
    ]


CELLS: tuple[Cell, ...] = (
    *_nulls(),
    *_unpaired(),
    *_ties(),
    *_contrasts(),
    *_ablations(),
    *_factorials(),
    *_sweeps(),
    *_races(),
    *_more(),
    *_loops(),
    *_optima(),
    *_doctor(),
)
