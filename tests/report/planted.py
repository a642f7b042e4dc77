"""Made-up studies with a known answer, and judgements of them worked out here, apart from the judge."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from blueberry.judge.judgement import (
    ArmSummary,
    Audit,
    Axis,
    Best,
    Bound,
    Judgement,
    Noise,
    Optimum,
    Purpose,
    Ranges,
    Recommendation,
    RunCost,
    Verdict,
)
from blueberry.recipe import Recipe
from blueberry.records import Curve, Evaluation, Failure, Metrics, Provenance, RunResult, StudyRun

RATE = "optimizer.muon.learning_rate"
UPDATES = 200
EVERY = 10
HOSTILE = 'Which rate is "best" <script>alert(1)</script> & | *why* `not` _that_ [one](http://x) {{ 7*7 }}?'


def run_result(
    name: str, settings: dict[str, Any], seed: int, loss: float, rng: np.random.Generator, updates: int = UPDATES
) -> RunResult:
    """A run that falls smoothly from ln 1024 to `loss`; an infinite loss diverges after a third of the updates."""
    recipe = Recipe().with_({"seed": seed, "train.updates": updates, **settings}).flat()
    diverged = math.isinf(loss)
    done = updates // 3 if diverged else updates
    start, end = math.log(1024), 9.0 if diverged else loss
    shape = (1 - np.exp(-4 * np.arange(done + 1) / updates)) / (1 - math.exp(-4))
    clean = start + (end - start) * shape
    train = clean[:-1] + 0.05 * rng.standard_normal(done) - 0.03
    every = range(EVERY, done + 1, EVERY)
    evaluations = tuple(
        Evaluation(update=u, tokens=u * 1024, seconds=u * 0.011, validation=metrics(float(clean[u]))) for u in every
    )
    final = None if diverged else metrics(loss)
    return RunResult(
        fingerprint=f"{name}-{seed}".encode().hex()[:16],
        recipe=recipe,
        status="diverged" if diverged else "completed",
        failure=Failure(kind="diverged", update=done, message="loss is not finite") if diverged else None,
        final=final,
        test=None if diverged else metrics(loss + 0.021),
        evaluations=evaluations,
        curve=Curve(
            train_loss=(*(float(v) for v in train[:-1]), None) if diverged else tuple(float(v) for v in train),
            gradient_norm=tuple(float(v) for v in np.abs(1 + 0.2 * rng.standard_normal(done))),
            learning_rate=tuple(float(settings.get(RATE, 0.03)) for _ in range(done)),
        ),
        num_updates=done,
        num_tokens=done * 1024,
        num_flops=done * 1024 * 1.2e6,
        train_seconds=done * 0.011,
        provenance=Provenance(
            code_digest="5b1e9c0d77aa1f02",
            torch="2.13.0",
            device="cpu",
            threads=2,
            lanes=11,
            data_digest="c0ffee0123456789",
            evaluation_digest="ab12cd34ef567890",
        ),
    )


def metrics(loss: float) -> Metrics:
    return Metrics(loss=loss, bits_per_byte=loss / math.log(2) / 3.1, accuracy=0.62 - 0.08 * loss, num_tokens=16384)


def summarise(name: str, settings: dict[str, Any], values: Sequence[float], status: str, alpha: float) -> ArmSummary:
    finite = all(math.isfinite(v) for v in values)
    mean = sum(values) / len(values)
    several = finite and len(values) > 1
    sd = float(np.std(values, ddof=1)) if several else None
    half = None if sd is None else float(stats.t.ppf(1 - alpha / 2, len(values) - 1)) * sd / math.sqrt(len(values))
    return ArmSummary(
        arm=name,
        settings=settings,
        n=len(values),
        mean=mean,
        sd=sd,
        interval=None if half is None else (mean - half, mean + half),
        status=status,  # type: ignore[arg-type]
        num_diverged=sum(math.isinf(v) for v in values),
        seeds=tuple(range(len(values))),
        values=tuple(values),
    )


class Planted:
    """A judgement and its runs."""

    def __init__(
        self,
        arms: dict[str, tuple[dict[str, Any], list[float]]],
        *,
        vary: tuple[str, ...],
        confirm: list[float] | None = None,
        optimum: Optimum | Bound | None = None,
        audits: tuple[Audit, ...] = (),
        withheld: str | None = None,
        question: str = "Which Muon learning rate is best for the nano mixture of experts?",
        updates: int = UPDATES,
        min_effect: float = 0.01,
    ) -> None:
        rng = np.random.default_rng(7)
        alpha = 0.05
        means = {name: sum(values) / len(values) for name, (_, values) in arms.items()}
        least = min(means, key=lambda name: means[name])
        any_best = math.isfinite(means[least])
        verdicts: list[Verdict] = []
        status: dict[str, str] = {}
        for name, (_, values) in arms.items():
            status[name] = "diverged" if math.isinf(means[name]) else "best" if name == least else "worse"
            if name == least or not any_best:
                continue
            verdict = _verdict(least, name, arms[least][1], values, alpha / max(len(arms) - 1, 1), min_effect)
            verdicts.append(verdict)
            if verdict.verdict != "winner" and status[name] == "worse":
                status[name] = "unresolved"
        if any_best and "baseline" in arms and least != "baseline":
            verdicts += [
                _verdict("baseline", name, arms["baseline"][1], values, alpha / max(len(arms) - 1, 1), min_effect)
                for name, (_, values) in arms.items()
                if name != "baseline"
            ]
        summaries = [summarise(n, s, v, status[n], alpha) for n, (s, v) in arms.items()]
        unresolved = tuple(a.arm for a in summaries if a.status in ("best", "unresolved"))
        best = None
        if any_best:
            fresh = summarise(least, {}, confirm, "best", alpha) if confirm else None
            own = next(a for a in summaries if a.arm == least)
            best = Best(
                arm=least,
                settings=arms[least][0],
                mean=(fresh or own).mean,  # type: ignore[arg-type]
                interval=(fresh or own).interval,
                n=(fresh or own).n,
                confirmed=fresh is not None,
                search_mean=own.mean,  # type: ignore[arg-type]
                test_mean=(fresh or own).mean + 0.021,  # type: ignore[operator]
            )
        axis = [arms[name][0].get(vary[0]) for name in unresolved] if vary else []
        numeric = [float(v) for v in axis if isinstance(v, (int, float))]
        sds = [a.sd for a in summaries if a.sd is not None]
        sd = math.sqrt(sum(s * s for s in sds) / len(sds)) if sds else None
        text = f"{vary[0]} = {numeric[0]:.4g}" if vary and numeric else least
        self.runs: list[StudyRun] = [
            StudyRun(name, seed, "search", run_result(name, settings, seed, value, rng, updates))
            for name, (settings, values) in arms.items()
            for seed, value in enumerate(values)
        ]
        if confirm and any_best:
            self.runs += [
                StudyRun(least, 16 + i, "confirm", run_result(least, arms[least][0], 16 + i, value, rng, updates))
                for i, value in enumerate(confirm)
            ]
        self.judgement = Judgement(
            question=question,
            metric="val_loss",
            min_effect=min_effect,
            alpha=alpha,
            vary=vary,
            axis=_axis(vary, [settings for settings, _ in arms.values()]),
            arms=tuple(summaries),
            noise=Noise(
                sd=sd,
                rho=0.72 if sd else None,
                paired_sd=None if sd is None else sd * math.sqrt(2 * (1 - 0.72)),
                n=sum(a.n - a.num_diverged for a in summaries),
            ),
            best=best,
            unresolved=unresolved,
            optimum=optimum,
            verdicts=tuple(verdicts),
            ranges=Ranges(
                optimal=(min(numeric), max(numeric)) if numeric else None,
                conservative=min(numeric) if numeric else None,
                fast=max(numeric) if numeric else None,
                unstable_from=min(
                    (
                        float(a.settings[vary[0]])
                        for a in summaries
                        if a.num_diverged and vary and vary[0] in a.settings
                    ),
                    default=None,
                ),
            ),
            audits=audits,
            purposes=_purposes(arms, least, withheld),
            recommendation=Recommendation(withheld=withheld)
            if withheld
            else Recommendation(settings=arms[least][0], text=f"Use {text}."),
            cost=RunCost(
                runs=len(self.runs),
                tokens=sum(r.result.num_tokens for r in self.runs),
                flops=sum(r.result.num_flops for r in self.runs),
                seconds=sum(r.result.train_seconds or 0.0 for r in self.runs),
            ),
            known=f"Of {len(arms)} arms, {len(unresolved)} cannot be told apart from the best, {least}."
            if any_best
            else "Every run diverged: nothing is known of the loss at any of these settings.",
            unknown="Whether this holds beyond 200 updates is not known: nothing longer was run.",
        )


def _axis(vary: tuple[str, ...], settings: list[dict[str, Any]]) -> Axis | None:
    values = sorted({float(one[vary[0]]) for one in settings}) if vary else []
    return Axis(setting=vary[0], values=tuple(values), scale="log") if values else None


def _purposes(arms: dict[str, tuple[dict[str, Any], list[float]]], least: str, withheld: str | None):
    best = arms[least][0]
    failed = [settings for settings, values in arms.values() if not all(map(math.isfinite, values))]
    said = {
        name: Purpose(purpose=name, because=withheld)
        if withheld
        else Purpose(purpose=name, arms=(least,), settings=best, evidence=f"evidence for {name}")
        for name in ("production", "conservative", "fast")
    }
    if failed:
        said["avoid"] = Purpose(purpose="avoid", settings=failed[0], evidence="3 of 3 runs failed")
    else:
        said["avoid"] = Purpose(purpose="avoid", because="no run failed")
    return tuple(said.values())


def _verdict(a: str, b: str, of_a: list[float], of_b: list[float], level: float, min_effect: float) -> Verdict:
    differences = np.array(of_b) - np.array(of_a)
    n = len(differences)
    if not np.isfinite(differences).all():
        return Verdict(a=a, b=b, difference=None, interval=None, n=n, verdict="winner", winner=a, more_seeds=None)
    mean = float(differences.mean())
    if n < 2:
        return Verdict(
            a=a, b=b, difference=mean, interval=None, n=n, verdict="inconclusive", winner=None, more_seeds=None
        )
    half = float(stats.t.ppf(1 - level, n - 1) * differences.std(ddof=1) / math.sqrt(n))
    ends = (mean - half, mean + half)
    if ends[0] > 0 or ends[1] < 0:
        winner = a if ends[0] > 0 else b
        return Verdict(a=a, b=b, difference=mean, interval=ends, n=n, verdict="winner", winner=winner, more_seeds=None)
    tie = max(abs(ends[0]), abs(ends[1])) < min_effect
    return Verdict(
        a=a,
        b=b,
        difference=mean,
        interval=ends,
        n=n,
        verdict="tie" if tie else "inconclusive",
        winner=None,
        more_seeds=None if tie else 7,
    )


def valley(rates: Sequence[float], num_seeds: int, *, centre: float = 0.04, unstable_from: float = 0.3) -> dict:
    """A lopsided valley in log rate with noise shared by a seed; runs at or above `unstable_from` diverge."""
    rng = np.random.default_rng(11)
    shared = 0.008 * rng.standard_normal(num_seeds)
    arms = {}
    for index, rate in enumerate(rates):
        away = math.log(rate / centre)
        loss = 4.21 + (0.03 if away < 0 else 0.075) * away * away
        values = loss + shared + 0.004 * rng.standard_normal(num_seeds)
        if rate >= unstable_from:
            values[0 if index < len(rates) - 1 else slice(None)] = np.inf
        arms[f"{rate:.4g}"] = ({RATE: float(rate)}, [float(v) for v in values])
    return arms


def sweep(question: str = "Which Muon learning rate is best for the nano mixture of experts?", updates: int = UPDATES):
    """11 rates x 3 seeds and 5 confirming runs; the two highest rates diverge."""
    rates = [float(f"{r:.4g}") for r in np.geomspace(0.001, 1.0, 11)]
    return Planted(
        valley(rates, 3),
        vary=(RATE,),
        confirm=[4.223, 4.218, 4.209, 4.226, 4.214],
        optimum=Optimum(setting=RATE, estimate=0.038, interval=(0.024, 0.055), level=0.95),
        audits=(
            Audit(
                audit="horizon",
                severity="warn",
                message="the optimum was measured at 200 updates only",
                remedy="run studies/horizon.toml before using it for longer runs",
            ),
        ),
        question=question,
        updates=updates,
    )


def edge():
    """The least loss at the lowest rate: no optimum, and no recommendation."""
    rates = [0.02, 0.03, 0.045, 0.07, 0.1, 0.15, 0.22, 0.33, 0.5]
    return Planted(
        valley(rates, 3, centre=0.008, unstable_from=9),
        vary=(RATE,),
        optimum=Bound(setting=RATE, bound=0.03, side="below"),
        audits=(
            Audit(
                audit="edge",
                severity="block",
                message="the best rate, 0.02, is the lowest that was tried",
                remedy="extend the range downwards to 0.0025 and run again",
            ),
        ),
        withheld="the best rate is at the end of the range",
    )


def named(num_seeds: int = 5):
    """A baseline and five changes."""
    rng = np.random.default_rng(3)
    shared = 0.01 * rng.standard_normal(num_seeds)
    effects = {
        "baseline": 0.0,
        "dropout_0.05": 0.004,
        "half_batch": -0.062,
        "no_clip": 0.001,
        "combo_grad_dropout": -0.048,
        "qk_norm": 0.031,
    }
    arms = {
        name: (
            {} if name == "baseline" else {"model.dropout": 0.05},
            [float(4.3 + effect + s + 0.005 * e) for s, e in zip(shared, rng.standard_normal(num_seeds), strict=True)],
        )
        for name, effect in effects.items()
    }
    return Planted(arms, vary=(), question="Which of five changes lowers the loss?", confirm=[4.24, 4.235, 4.245])


def two_arms():
    arms = {
        "baseline": ({}, [4.31, 4.3, 4.325, 4.29, 4.316]),
        "half_batch": ({"train.batch_sequences": 8}, [4.25, 4.249, 4.262, 4.24, 4.259]),
    }
    return Planted(arms, vary=(), question="Does a smaller batch help at equal tokens?")


def one_seed():
    return Planted(
        valley([0.005, 0.01, 0.02, 0.04, 0.08, 0.16], 1, unstable_from=9),
        vary=(RATE,),
        audits=(
            Audit(
                audit="seeds",
                severity="block",
                message="one seed for each arm: the differences cannot be told from noise",
                remedy="set [seeds] search = 3",
            ),
        ),
        withheld="one seed measures no noise",
    )


def all_diverged():
    arms = {f"{rate:g}": ({RATE: rate}, [math.inf] * 3) for rate in (3.0, 10.0, 30.0)}
    return Planted(arms, vary=(RATE,), withheld="every run diverged")


def grid():
    """Two axes."""
    arms = {}
    for decay in (0.0, 0.1, 0.3):
        for name, (settings, values) in valley([0.01, 0.02, 0.04, 0.08, 0.16], 3, unstable_from=9).items():
            arms[f"{name}, {decay:g}"] = (
                {**settings, "optimizer.adamw.weight_decay": decay},
                [v + 0.1 * abs(decay - 0.1) for v in values],
            )
    return Planted(arms, vary=(RATE, "optimizer.adamw.weight_decay"), question="Rate and decay together?")


def hostile():
    """Text that would break out of HTML, Markdown or a template if it were let."""
    bad = "<img src=x onerror=alert(1)>|`*_x_*`"
    arms = {"baseline": ({}, [4.31, 4.3]), bad: ({"train.batch_sequences": 8}, [4.25, 4.249])}
    return Planted(
        arms,
        vary=(),
        question=HOSTILE,
        audits=(Audit(audit="seeds", severity="block", message=bad, remedy="</script><b>add seeds</b>"),),
        withheld="because </title><script>x</script>",
    )
