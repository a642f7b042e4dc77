"""The facts of a page, each a label, a value and a remark: what was trained, how it was searched, the noise, the
confirmation, what missing the best costs, what the runs cost and what computed them."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from blueberry.architecture import parameters
from blueberry.errors import BlueberryError
from blueberry.files import toml_value
from blueberry.judge import words
from blueberry.judge.answers import Located, ValleyModel
from blueberry.judge.judgement import BASELINE, Best, Judgement, RunCost
from blueberry.judge.words import MISSING, count, decimals, duration, interval, number, quantity, setting_value
from blueberry.recipe import Recipe
from blueberry.records import RunResult, StudyRun
from blueberry.report.learning_curves import by_seed
from blueberry.stats.differences import POWER
from blueberry.study.spec import Study


@dataclass(frozen=True)
class Fact:
    """A label, what stands beside it, and a remark or ""."""

    label: str
    value: str
    remark: str = ""


# --- What was trained ---

MOST_VALUES = 6
"""That a setting's place lists."""
_MODEL = (
    "model.width", "model.num_layers", "model.num_heads", "model.attention.kind", "model.feed_forward.kind",
    "model.feed_forward.hidden", "model.feed_forward.num_experts", "model.feed_forward.top_k", "model.dropout",
)  # fmt: skip
_TEXT = (
    "data.corpus", "data.tokenizer", "data.vocabulary_tokens", "data.windows", "data.max_documents",
    "data.max_characters", "data.max_tokens", "data.max_train_tokens",
)  # fmt: skip
_OPTIMIZER = (
    "optimizer.kind", "optimizer.muon.learning_rate", "optimizer.adamw.learning_rate",
    "optimizer.adamw.learning_rate_ratio", "optimizer.adamw.weight_decay",
)  # fmt: skip
_SCHEDULE = (
    "schedule.kind", "schedule.warmup_fraction", "schedule.warmup_updates", "schedule.floor_fraction",
    "schedule.horizon_updates",
)  # fmt: skip


def trained_facts(study: Study | None, runs: Sequence[StudyRun]) -> tuple[Fact, ...]:
    """What all runs have in common, and where it differs the values; empty for runs that no study of ours asked for."""
    if study is None:
        return ()
    line = study.line if study.entry is None else f"ledger:{study.line}, entry {study.entry}"
    facts = [Fact("Base recipe", line, "" if study.entry is None else "the line's baseline when the study began")]
    fixed = ", ".join(f"{name} = {toml_value(value)}" for name, value in study.fixed.items())
    facts.append(Fact("Changed in every arm", fixed or "nothing", "[set] of the study file" if fixed else ""))
    if study.trainer is not None:
        return (
            *facts,
            Fact("Trained by", " ".join(study.trainer.command), "settings that it is not told have no effect"),
        )
    recipes = list({id(run.result.recipe): run.result.recipe for run in runs}.values())
    if not recipes:
        return tuple(facts)
    sizes = sorted({count for recipe in recipes if (count := _parameters(recipe)) is not None})
    said = " to ".join(quantity(float(size)) for size in dict.fromkeys((sizes[0], sizes[-1]))) if sizes else ""
    facts += [
        Fact("Model", _of(recipes, _MODEL), f"{said} parameters" if said else ""),
        Fact("Text", _of(recipes, _TEXT)),
        Fact("An update", _values(recipes, "train.batch_sequences", "sequences of") + " "
             + _values(recipes, "model.context_tokens", "tokens")),
        Fact("Length", _length(recipes)),
        Fact("Optimizer", _of(recipes, _OPTIMIZER)),
        Fact("Schedule", _of(recipes, _SCHEDULE)),
    ]  # fmt: skip
    return tuple(facts)


def _distinct(recipes: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    """A setting's values over all runs, in their order; without those of runs that have no such setting."""
    found = dict.fromkeys(recipe[name] for recipe in recipes if recipe.get(name) is not None)
    values = list(found)
    return sorted(values) if all(isinstance(value, int | float) for value in values) else values


def _values(recipes: Sequence[Mapping[str, Any]], name: str, unit: str = "") -> str:
    values = _distinct(recipes, name)
    shown = [setting_value(value) for value in values]
    if len(shown) > MOST_VALUES:
        shown = [f"{shown[0]} to {shown[-1]}"] if isinstance(values[0], int | float) else [*shown[:MOST_VALUES], "..."]
    return f"{' or '.join(shown) or MISSING} {unit}".strip()


def _of(recipes: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    """Several settings, e.g. "width 64, num_layers 2, kind moe"; of a section's kind the section's name too."""
    said = []
    for name in names:
        if _distinct(recipes, name) in ([], ["disjoint"]):  # windows side by side need no word
            continue
        section, _, last = name.rpartition(".")
        label = section.rpartition(".")[2].replace("_", " ") if last == "kind" else last.replace("_", " ")
        values = _values(recipes, name)
        said.append(values if name in ("optimizer.kind", "schedule.kind") else f"{label} {values}")
    return ", ".join(said)


def _length(recipes: Sequence[Mapping[str, Any]]) -> str:
    if _distinct(recipes, "train.tokens") and not _distinct(recipes, "train.updates"):
        return _values(recipes, "train.tokens", "tokens")
    return _values(recipes, "train.updates", "updates")


def _parameters(recipe: Mapping[str, Any]) -> int | None:
    try:
        return parameters(Recipe().with_({k: v for k, v in recipe.items() if v is not None})).total
    except BlueberryError:
        return None


# --- The search along an axis ---


def search_sentences(judgement: Judgement) -> str | None:
    """How the search ended, what the valley was read from, which models fit, and the noise; None without a search."""
    located, valley = judgement.located, judgement.valley
    if located is None:
        return None
    said = f"The search ended after {_spent(located)}: {_ended(judgement, located)}."
    if located.is_broken or valley is None:
        return said
    window = " to ".join(map(setting_value, valley.window))
    noise = f"{number(valley.sd, decimals(judgement.min_effect) + 1)}{words.unit(judgement.metric)}"
    return (
        f"{said} The valley was read from {words.setting_name(valley.setting)} {window}. {_models(valley.models)} "
        f"One run lies {noise} from the curve (sd, seeds taken out, {count(valley.df, 'degree')} of freedom)."
    )


def search_in_short(judgement: Judgement) -> str:
    """A cell of a table; empty without a search."""
    located = judgement.located
    if located is None:
        return ""
    costs = "" if located.excess is None else f"costs at most {max(located.excess, 0.0):.2g}; "
    return f"{costs}{_ended(judgement, located)}; {_spent(located)}"


def _spent(located: Located) -> str:
    return f"{count(located.runs, 'run')} on {count(located.seeds, 'seed')}"


def _ended(judgement: Judgement, located: Located) -> str:
    effect = f"{judgement.min_effect:g}{words.unit(judgement.metric)}"
    if located.is_broken:
        why = "" if located.ended == "no valley" else f" ({located.ended})"
        return f"the runs are not one smooth valley{why}"
    return {"located": f"within {effect} of the best", "runs": "its runs are spent", "seeds": "its seeds are spent"}[
        located.ended
    ]


def _models(models: tuple[ValleyModel, ...]) -> str:
    if all(model.fit == 1.0 for model in models):
        return f"Nothing says how well its models fit: {words.listing([model.model for model in models])}."
    kept, rejected = ([f"{m.model} ({m.fit:.2g})" for m in models if m.kept is is_kept] for is_kept in (True, False))
    more = f"; left out: {words.listing(rejected)}" if rejected else ""
    return f"Models kept, each with the p-value of its lack of fit: {words.listing(kept)}{more}."


# --- Noise, confirmation, robustness, cost, provenance ---


def noise_facts(judgement: Judgement) -> tuple[Fact, ...]:
    """Of conditions one each: they are judged by their own noise."""
    if judgement.conditions:
        return tuple(_noise_there(part.name, part.judgement) for part in judgement.parts)
    noise, unit, places = judgement.noise, words.unit(judgement.metric), decimals(judgement.min_effect) + 1
    facts = [
        Fact("One run around its arm's mean (sd)", MISSING if noise.sd is None else number(noise.sd, places) + unit),
        Fact(
            "Two arms on one seed go together (rho)",
            MISSING if noise.rho is None else f"{noise.rho:.2f}",
            "1: seeds move all arms alike; 0: not at all",
        ),
        Fact("Measured on", "no arm was run twice" if noise.sd is None else count(noise.n, "run")),
    ]
    if noise.prior_df is not None and math.isfinite(noise.prior_df):
        remark = "degrees of freedom that arms lend one another; the fewer, the more each is judged by its own noise"
        facts.append(Fact("Arms differ in noise", f"{noise.prior_df:g}", remark))
    if noise.borrowed_sd is not None and noise.borrowed_df is not None:
        known = "taken as known" if math.isinf(noise.borrowed_df) else f"{noise.borrowed_df:g} degrees of freedom"
        value = f"{noise.borrowed_sd:g}{unit} ({noise.borrowed_from})"
        facts.append(Fact("Borrowed, and judged with: one run (sd)", value, known))
    if noise.paired_sd is not None:
        facts.insert(2, Fact("Difference of two arms on one seed (sd)", number(noise.paired_sd, places) + unit))
    if judgement.is_located:  # a valley compares values, not arms
        return tuple(facts)
    found = judgement.detectable
    least, seeds = (found.difference, found.seeds) if found else (None, max((a.n for a in judgement.arms), default=0))
    remark = "needs an arm that was run twice"
    if least is not None:
        than = "larger" if least > judgement.min_effect else "no larger"
        against = "baseline" if any(arm.arm == BASELINE for arm in judgement.arms) else "best"
        remark = (
            f"between an arm and the {against}, found with probability {POWER:g}; "
            f"{than} than the {judgement.min_effect:g}{unit} said to matter"
        )
    value = MISSING if least is None else number(least, places - 1) + unit
    one = "seed" if noise.paired_sd is not None and noise.borrowed_sd is None else "run"
    each = "" if one == "seed" else " of each arm"
    return (*facts, Fact(f"Smallest difference that {count(seeds, one)}{each} can show", value, remark))


def _noise_there(name: str, judgement: Judgement) -> Fact:
    noise, unit, places = judgement.noise, words.unit(judgement.metric), decimals(judgement.min_effect) + 1
    label = f"{name}: one run around its arm's mean (sd)"
    if noise.sd is None:
        return Fact(label, MISSING, "no arm was run twice")
    said = [f"from {count(noise.n, 'run')}"]
    if noise.paired_sd is not None:
        said.append(f"difference of two arms on one seed {number(noise.paired_sd, places)}")
    if (found := judgement.detectable) is not None and not judgement.is_located:
        least = number(found.difference, places - 1)
        said.append(f"the smallest that {count(found.seeds, 'seed')} can show is {least}")
    return Fact(label, number(noise.sd, places) + unit, "; ".join(said))


def confirmation_facts(judgement: Judgement, runs: Sequence[StudyRun]) -> tuple[Fact, ...]:
    """The best arm on the seeds that chose it, on fresh ones and on the test set; of conditions each one's own best."""
    best, places = judgement.best, decimals(judgement.min_effect)
    if judgement.conditions:
        bests = [(part.name, part.judgement.best) for part in judgement.parts]
        return tuple(_confirmed_there(name, best, places) for name, best in bests if best is not None)
    if best is None:
        return ()
    chose = f"flattering: it was chosen for being {'high' if judgement.goal == 'maximize' else 'low'}"
    facts = [Fact(f"{best.arm} on the seeds that chose it", number(best.search_mean, places), chose)]
    if judgement.is_located and not any(arm.n for arm in judgement.arms if arm.arm == best.arm):
        said = "of its neighbours; no run with this value searched"
        facts = [Fact(f"{best.arm} as the fitted valley has it", number(best.search_mean, places), said)]
    if best.confirmed:
        fresh = f"{number(best.mean, places)} {interval(best.interval, places)}"
        facts += [Fact("On fresh seeds", fresh, count(best.n, "run")), *_each(judgement, best, runs)]
        facts += [kept for kept in (kept_runs(_fresh(best, runs)),) if kept is not None]
    else:
        facts.append(Fact("On fresh seeds", "not measured", "the number above is unconfirmed"))
    if best.test_mean is not None:
        remark = "of the same runs; the test set selected nothing"
        facts.append(Fact("On the test set", number(best.test_mean, places), remark))
    return tuple(facts)


def _each(judgement: Judgement, best: Best, runs: Sequence[StudyRun]) -> list[Fact]:
    said = [_end_of(run.result, judgement) for run in _fresh(best, runs)]
    return [Fact("Each of them", ", ".join(said))] if said else []


def _fresh(best: Best, runs: Sequence[StudyRun]) -> list[StudyRun]:
    return sorted((run for run in runs if run.stage == "confirm" and run.arm == best.arm), key=by_seed)


def _end_of(result: RunResult, judgement: Judgement) -> str:
    """The number of a run, or how it ended without one."""
    if result.status != "completed":
        return "diverged" if result.status == "diverged" else "crashed"
    value = result.metric(judgement.metric)
    return "not measured" if value is None else number(value, decimals(judgement.min_effect))


def _confirmed_there(name: str, best: Best, places: int) -> Fact:
    label, chose = (
        f"{name}: {best.arm} on fresh seeds",
        f"{number(best.search_mean, places)} on the seeds that chose it",
    )
    value = f"{number(best.mean, places)} {interval(best.interval, places)}" if best.confirmed else "not measured"
    said = [count(best.n, "run"), chose] if best.confirmed else [chose]
    if best.test_mean is not None:
        said.append(f"on the test set, the same runs: {number(best.test_mean, places)}")
    return Fact(label, value, "; ".join(said))


def kept_runs(runs: Sequence[StudyRun]) -> Fact | None:
    """The fingerprints of runs, as `blueberry sample` and `blueberry export` take them. None without any."""
    own = [run for run in runs if run.result.status == "completed" and run.place == ""]
    if not own:
        return None
    names = ", ".join(f"{run.result.fingerprint} (seed {run.seed})" for run in own)
    kept = all(run.result.recipe.get("train.keep_weights") for run in own)
    remark = "what blueberry sample and blueberry export take"
    return Fact("Their fingerprints", names, remark if kept else "weights were not kept: train.keep_weights = false")


def robustness_facts(judgement: Judgement) -> tuple[Fact, ...]:
    found, places = judgement.robustness, decimals(judgement.min_effect)
    if found is None:
        return ()
    facts = []
    if found.band is not None and found.band_factor is not None and found.band_is_bounded is not None:
        more = "" if all(found.band_is_bounded) else "at least "
        value = f"{more}a factor of {found.band_factor:.2g}"
        band = f"{setting_value(found.band[0])} to {setting_value(found.band[1])}"
        facts.append(Fact(f"Within {judgement.min_effect:g} of the best", value, f"of the means, interpolated: {band}"))
    if found.excess is not None:
        value = f"{number(found.excess, places, sign=True)} {interval(found.excess_interval, places, sign=True)}"
        facts.append(
            Fact("A value up to tenfold off costs, on average", value, "drawn evenly in logarithm, either side")
        )
    if (stable := found.stable_to) is not None:
        remark = f"0 of {count(stable.n, 'run')} failed there: at most {stable.bound:.0%} do"
        facts.append(Fact("No run failed up to", setting_value(stable.value), remark))
    if (failing := found.unstable_from) is not None:
        remark = f"{failing.failures} of {count(failing.n, 'run')}: at least {failing.bound:.1%} do"
        facts.append(Fact("Runs failed from", setting_value(failing.value), remark))
    return tuple(facts)


def cost_facts(judgement: Judgement) -> tuple[Fact, ...]:
    cost = judgement.cost
    return (
        Fact("Runs", str(cost.runs)),
        Fact("Training tokens", quantity(float(cost.tokens)) if cost.tokens else "not recorded"),
        Fact("Floating point operations", quantity(cost.flops, "FLOP") if cost.flops else "not recorded"),
        Fact("Training time, added up", duration(cost.seconds) if cost.seconds else "not recorded"),
        *_saving(cost),
    )


def _saving(cost: RunCost) -> tuple[Fact, ...]:
    if not cost.shared_flops or cost.flops is None:
        return ()
    share = cost.shared_flops / (cost.flops + cost.shared_flops)
    spared = f"{quantity(cost.shared_flops, 'FLOP')} and {duration(cost.shared_seconds)}"
    remark = "runs that differ only in schedule or length began where another had been; no number depends on it"
    return (Fact("Shared, not trained twice", f"{spared}, {share:.0%} of what the runs cost alone", remark),)


def provenance_facts(runs: Sequence[StudyRun]) -> tuple[Fact, ...]:
    """Each distinct value with the number of runs, when there is more than one."""
    recorded = [run.result.provenance for run in runs if run.result.provenance is not None]
    if not recorded:
        return (Fact("Runs", "what computed them was not recorded"),)
    facts = []
    for label, name in (
        ("Build of the trainer", "code_digest"),
        ("PyTorch", "torch"),
        ("Device", "device"),
        ("Threads", "threads"),
        ("Runs side by side", "lanes"),
        ("Data", "data_digest"),
        ("Validation tokens", "evaluation_digest"),
    ):
        counts = Counter(str(value) for p in recorded if (value := getattr(p, name)) is not None)
        if not counts:
            continue
        if len(counts) == 1:
            facts.append(Fact(label, next(iter(counts))))
        else:
            said = ", ".join(f"{value} ({count(num, 'run')})" for value, num in sorted(counts.items()))
            facts.append(Fact(label, said, "differs between runs"))
    unknown = len(runs) - len(recorded)
    return (*facts, Fact("Not recorded", count(unknown, "run"))) if unknown else tuple(facts)
