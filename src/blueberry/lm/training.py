"""Recipes that share shapes, one lane each, trained to their ends together, in as few groups as memory allows.

`Group` is what is trained and what it has measured: all that an update or an evaluation changes, and so all that a
checkpoint holds. `_side_by_side` is the loop around it: what others are told, and when what is left on the disk.

When memory runs out, the micro-batch is halved first, down to single sequences (`blueberry.lm.update`); then the lanes
are split into two groups, one trained after the other. Splitting changes no number: a lane's are the same to the last
bit in whatever company, where kernels compute it alike (on a CPU they do). A smaller micro-batch changes the order in
which gradients are added, hence last bits. The result's provenance has the lanes and the micro-batch of the end.

Shapes: N lanes, B sequences of an update, T tokens of a sequence, U updates.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from blueberry.architecture import flops_per_token, parameters
from blueberry.curves import Watch
from blueberry.errors import RecipeError
from blueberry.lm.checkpoint import Checkpoint, Checkpoints, Shared
from blueberry.lm.draws import SITES_A_LAYER, keys_SNB
from blueberry.lm.evaluation import Look, looks
from blueberry.lm.layers import Precision, Weights, compute_weights, initialize, resolved
from blueberry.lm.model import LanguageModel
from blueberry.lm.optimizers import Moved, moved
from blueberry.lm.trained import Trained, save_weights
from blueberry.lm.update import ONE, Inputs, Ranks, Update, execution_of, free, is_out_of_memory
from blueberry.recipe import Recipe
from blueberry.records import Curve, Evaluation, Execution, Failure, Metrics, Progress, Provenance, RunResult
from blueberry.schedules import multipliers, rate_cuts
from blueberry.text.dataset import Dataset
from blueberry.text.windows import EvaluationSet, batch, evaluation_set, require_fit

PROGRESS_SECONDS = 0.5
CHECKPOINT_SECONDS = 10.0
"""At least so long from one checkpoint to the next; 0: one after every update."""
CHECKPOINT_SHARE = 0.02
"""Of the time, at most, that goes into saving: the last save says how long one takes."""
UPDATES_BETWEEN_READS = 16
"""On a device that computes ahead of the host, losses are fetched this seldom."""


@dataclass
class Recorded:
    """What one lane has measured so far. Plain JSON, so that it travels in a checkpoint."""

    train_loss: list[float | None] = field(default_factory=list)
    gradient_norm: list[float | None] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    evaluations: list[dict] = field(default_factory=list)
    seconds: float = 0.0
    diverged_at: int | None = None
    micro_batch_sequences: int | None = None
    """What memory allowed; None where it allowed what the recipe asks for."""
    shared_updates: int = 0
    """Taken over from a run that had been there."""
    shared_seconds: float = 0.0
    """Of `seconds`, those."""

    def seen(self, num_updates: int) -> list[tuple[int, float]]:
        """The evaluations that a schedule can act on: update and validation loss of those before the last update."""
        looks = [(look["update"], look["validation"]["loss"]) for look in self.evaluations]
        return [(update, loss) for update, loss in looks if update < num_updates]


def train(
    recipes: Sequence[Recipe],
    fingerprints: Sequence[str],
    dataset: Dataset,
    provenance: Provenance,
    *,
    device: torch.device,
    checkpoints: Checkpoints | None = None,
    weights_folder: Path | None = None,
    ranks: Ranks = ONE,
) -> Iterator[Progress | RunResult]:
    """Train recipes of one shape key, one lane each: Progress now and then, and one RunResult each.

    `provenance` is completed with what is known here. With `checkpoints`, the group goes on from the newest state all
    its lanes have, its own or shared with others; it saves its own every few seconds, and leaves those that others
    want. Lanes that come from other groups, and have no state in common, are trained in parts. With `weights_folder`,
    the final weights of runs whose recipe keeps them are there when their results are given. Of several ranks the
    first alone writes; all must see one folder of checkpoints.
    Raises: DataError if the recipe does not fit the text, RecipeError if one sequence of one run does not fit the
    memory, StoreError if the disk refuses.
    """
    settings: dict[str, Any] = {
        "device": device, "checkpoints": checkpoints, "weights_folder": weights_folder, "ranks": ranks
    }  # fmt: skip
    missing = dict(zip(fingerprints, recipes, strict=True))
    parts = [list(missing)] if checkpoints is None else checkpoints.in_step(fingerprints)
    if len(parts) == 1:
        try:
            for event in _side_by_side(recipes, fingerprints, dataset, provenance, **settings):
                if isinstance(event, RunResult):
                    del missing[event.fingerprint]
                yield event
            return
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if ranks.size > 1:
                raise RecipeError(
                    f'recipe "train.micro_batch_sequences": {ranks.micro_batch_of(recipes[0])}; so many sequences at '
                    f"once do not fit the memory of one of {ranks.size} processes, which cannot go on with fewer by "
                    "themselves; halve it"
                ) from None
            if len(recipes) == 1:
                raise RecipeError(
                    f'recipe "model": {parameters(recipes[0]).total:,} parameters; one sequence of one run does not '
                    f"fit the memory of {provenance.device or device}; set train.checkpoint_activations = true, "
                    "shorten model.context_tokens or lower model.width"
                ) from None
        # Only here, outside of `except`, are the tensors of the failed attempt out of reach.
        free(device)
        names = list(missing)
        half = (len(names) + 1) // 2
        parts = [part for part in (names[:half], names[half:]) if part]
        note = (
            f"out of memory with {len(recipes)} runs side by side: training "
            f"{' and then '.join(str(len(part)) for part in parts)}; no number changes"
        )
        yield Progress(fingerprints=tuple(names), update=0, num_updates=recipes[0].num_updates, note=note)
    for part in parts:
        yield from train([missing[name] for name in part], part, dataset, provenance, **settings)


def _side_by_side(
    recipes: Sequence[Recipe],
    fingerprints: Sequence[str],
    dataset: Dataset,
    provenance: Provenance,
    *,
    device: torch.device,
    checkpoints: Checkpoints | None,
    weights_folder: Path | None,
    ranks: Ranks,
) -> Iterator[Progress | RunResult]:
    """All recipes at once, or what says that memory is out."""
    recipe = recipes[0]
    require_fit(dataset, recipe)
    group = Group(recipes, dataset, device, ranks=ranks)
    cut = {"context_tokens": recipe.model.context_tokens, "num_tokens": recipe.evaluate.tokens}
    validation, test = (evaluation_set(split, **cut) for split in (dataset.validation, dataset.test))
    sets = {name: evaluation_set(split, **cut) for name, split in dataset.sets.items()}
    known = {"evaluation_digest": validation.digest, "lanes": len(recipes), "precision": group.precision}
    provenance = provenance.model_copy(update=known)
    shared: list[Shared] = []
    if checkpoints is not None:
        named = zip(recipes, fingerprints, strict=True)
        shared = [Shared.of(recipe, name, dataset.digest, checkpoints) for recipe, name in named]
        _restore(group, fingerprints, checkpoints, shared)
    ranks.require_alike(f"update {group.update} of {', '.join(fingerprints)}")
    if ranks.number > 0:
        checkpoints, shared, weights_folder = None, [], None
    wanted = {update for lane in shared for update in lane.states}
    watches = [Watch(recipe.flat().get("model.feed_forward.num_experts")) for recipe in recipes]
    for _ in _notes(group, fingerprints, watches):
        pass  # said before the interruption
    yielded: set[int] = set()
    last_progress = last_checkpoint = mark = time.monotonic()
    measured_from, wait = group.update, CHECKPOINT_SECONDS
    while group.update < recipe.num_updates and len(yielded) < len(recipes):
        started = time.monotonic()
        group.step()
        now = time.monotonic()
        for recorded in group.recorded:
            recorded.seconds += (now - started) / len(recipes)
        ends = group.update == recipe.num_updates
        if group.evaluates_after(group.update) and not ends:
            group.evaluate(validation, sets)
        for lane in sorted(group.diverged - yielded):
            yielded.add(lane)
            yield group.result(lane, fingerprints[lane], provenance)
        now = time.monotonic()
        yield from _notes(group, fingerprints, watches)
        if now - last_progress >= PROGRESS_SECONDS:
            yield _progress(group, fingerprints, (group.update - measured_from) / (now - mark))
            last_progress = now
        if group.update in wanted:
            _share(group, shared)
        if checkpoints is not None and now - last_checkpoint >= wait and not ends:
            _save(group, fingerprints, checkpoints)
            last_checkpoint = time.monotonic()
            wait = max(CHECKPOINT_SECONDS, (last_checkpoint - now) / CHECKPOINT_SHARE) if CHECKPOINT_SECONDS else 0.0
    if len(yielded) == len(recipes):
        return
    finals, tests = group.evaluate(validation, sets), group.look(test)
    yield from _notes(group, fingerprints, watches)
    for lane in range(len(recipes)):
        if lane not in yielded:
            if finals[lane] is not None and weights_folder is not None and recipes[lane].train.keep_weights:
                save_weights(weights_folder / f"{fingerprints[lane]}.safetensors", group.trained(lane))
            yield group.result(lane, fingerprints[lane], provenance, finals[lane], tests[lane])


class Group:
    """Recipes of one shape key in training: `step` and `evaluate` change it, and nothing else but going back does."""

    def __init__(
        self,
        recipes: Sequence[Recipe],
        dataset: Dataset,
        device: torch.device,
        execution: Execution | None = None,
        ranks: Ranks = ONE,
    ) -> None:
        self.recipes, self.dataset, self.device = tuple(recipes), dataset, device
        self.recipe = self.recipes[0]
        self.precision: Precision = resolved(self.recipe, device)
        self.notes: list[str] = []
        """Lines for a person, not yet said."""
        self.seeds = tuple(recipe.seed for recipe in self.recipes)
        model = LanguageModel.build(self.recipe, device, dataset.tokenizer.separator)
        self.weights = initialize(self.recipe, self.seeds, device)
        execution = execution or execution_of(self.recipe, device, self.precision, ranks)
        self.do = Update(self.recipes, model, self.weights, device, self.precision, execution, ranks)
        self.own = ranks.range_of(self.recipe)
        """Of an update's sequences, those that are computed here."""
        self.multipliers_UN = torch.empty(self.recipe.num_updates, len(self.recipes))
        """Of the peak rates; a schedule that adapts rewrites its lane's from the update it is at."""
        self.recorded = [Recorded() for _ in self.recipes]
        self.schedule(range(len(self.recipes)))
        self.update = 0
        self.moved: Moved = []
        """How far each lane's groups of weights went in the last update that an evaluation follows."""
        self.unread: list[Tensor] = []
        """Losses and norms (2, N) of updates whose numbers still lie on the device."""

    @property
    def diverged(self) -> set[int]:
        """The lanes that have, as far as has been read."""
        return {lane for lane, recorded in enumerate(self.recorded) if recorded.diverged_at is not None}

    def step(self) -> None:
        """One optimizer step of every lane. A lane whose loss or gradient is not finite is frozen for good."""
        inputs = self.inputs()
        before = (
            {name: w.clone() for name, w in self.weights.items()} if self.evaluates_after(self.update + 1) else None
        )
        asked = self.do.micro_batch_sequences
        try:
            outcome = self.do(inputs)
        except RuntimeError as error:
            if self.do.execution != "compiled" or not type(error).__module__.startswith("torch._dynamo"):
                raise
            why = " ".join(str(error).split())[:160]
            self.notes.append(f"updates cannot be compiled, and are slower without: {why}; only rounding changes")
            self.do.carry_out("graph")
            outcome = self.do(inputs)
        if self.do.micro_batch_sequences != asked:
            self._went_on_with_less(asked)
        if before is not None:
            rates = self.do.optimizer.rates(inputs.multiplier_N * self.do.alive_N)
            self.moved = moved(before, self.weights, outcome.norms_GN, rates)
        self.unread.append(outcome.numbers_2N)
        self.update += 1
        reads = self.device.type == "cpu" or self.evaluates_after(self.update)
        if reads or len(self.unread) >= UPDATES_BETWEEN_READS:
            self.read()

    def _went_on_with_less(self, asked: int) -> None:
        """Memory ran out with as many sequences as were asked for: record and say what it went on with."""
        smaller = self.do.micro_batch_sequences
        for recorded in self.recorded:
            recorded.micro_batch_sequences = smaller
        self.notes.append(
            f"out of memory with {asked} sequences at once: going on with micro-batches of {smaller}; "
            f"only rounding changes; train.micro_batch_sequences = {smaller} begins with that"
        )

    def inputs(self) -> Inputs:
        """What the next update is given: tokens and keys of this rank's sequences."""
        num_sites = SITES_A_LAYER * (self.recipe.model.num_layers + 1)
        on_host = Inputs(
            self._batch()[:, self.own.start : self.own.stop],
            torch.from_numpy(keys_SNB(self.seeds, self.update, self.own, num_sites)),
            self.multipliers_UN[self.update],
            self.do.optimizer.bias_corrections(self.update),
        )
        return Inputs(*(given.to(self.device) for given in on_host))

    def evaluates_after(self, update: int) -> bool:
        """Whether the held-out text is looked at once `update` updates are done."""
        return update == self.recipe.num_updates or update % self.recipe.evaluate.every_updates == 0

    def schedule(self, lanes: Iterable[int]) -> None:
        """Lay out the multipliers of lanes, given what their evaluations have shown so far."""
        num_updates = self.recipe.num_updates
        for lane in lanes:
            made = multipliers(self.recipes[lane].schedule, num_updates, self.recorded[lane].seen(num_updates))
            self.multipliers_UN[:, lane] = torch.tensor(made, dtype=torch.float32)

    def read(self) -> None:
        """Fetch the numbers of the updates since the last read into the records."""
        if not self.unread:
            return
        first = self.update - len(self.unread)
        numbers_U2N = torch.stack(self.unread).cpu()
        self.unread.clear()
        rates_UN = self.multipliers_UN[first : self.update] * self.do.optimizer.peak_N["matrices"].cpu()
        for lane, recorded in enumerate(self.recorded):
            for offset, (loss, norm) in enumerate(numbers_U2N[:, :, lane].tolist()):
                if recorded.diverged_at is not None:
                    break
                recorded.train_loss.append(_finite(loss))
                recorded.gradient_norm.append(_finite(norm))
                recorded.learning_rate.append(rates_UN[offset, lane].item())
                if _finite(loss) is None or _finite(norm) is None:
                    recorded.diverged_at = first + offset + 1

    def evaluate(self, validation: EvaluationSet, sets: Mapping[str, EvaluationSet]) -> list[Look | None]:
        """Measure the lanes that live, record it, and let their schedules see it; None for a lane whose loss is not
        finite. After the last update such a lane has diverged.
        """
        found, of_sets = self.look(validation), self.look_at_sets(sets)
        for lane, (recorded, measured) in enumerate(zip(self.recorded, found, strict=True)):
            if recorded.diverged_at is not None:
                continue
            if measured is None:
                recorded.diverged_at = self.update if self.update == self.recipe.num_updates else None
                continue
            evaluation = Evaluation(
                update=self.update,
                tokens=self.update * self.recipe.update_tokens,
                seconds=recorded.seconds,
                validation=measured.metrics,
                sets=of_sets[lane],
                routing=measured.routing,
                groups=self.moved[lane],
            )
            recorded.evaluations.append(evaluation.model_dump(mode="json"))
            if self.recipes[lane].schedule.kind == "plateau":
                self.schedule([lane])
        return found

    def look(self, held_out: EvaluationSet) -> list[Look | None]:
        """Measure every lane; None for a lane whose loss is not finite."""
        return looks(self.do.model, self.evaluation_weights(), held_out, self.dataset.tokenizer.token_bytes)

    def evaluation_weights(self) -> Weights:
        """What the model is evaluated with, in the precision of training: the trained weights and the state."""
        return {**compute_weights(self.weights, self.precision), **self.do.state}

    def look_at_sets(self, sets: Mapping[str, EvaluationSet]) -> list[dict[str, Metrics]]:
        """Measure every lane on every named set; what is not finite is left out."""
        looks = {name: self.look(held_out) for name, held_out in sets.items()}
        return [
            {name: measured.metrics for name, lanes in looks.items() if (measured := lanes[lane]) is not None}
            for lane in range(len(self.recipes))
        ]

    def result(
        self, lane: int, fingerprint: str, provenance: Provenance, final: Look | None = None, test: Look | None = None
    ) -> RunResult:
        """What a lane has come to, with the last look at its held-out text; without, it has diverged."""
        recipe, recorded = self.recipes[lane], self.recorded[lane]
        num_updates = recorded.diverged_at or self.update
        why = "the loss or its gradient was not finite"
        failure = None if final else Failure(kind="diverged", update=recorded.diverged_at, message=why)
        num_tokens = num_updates * recipe.update_tokens
        evaluations = tuple(Evaluation.model_validate(evaluation) for evaluation in recorded.evaluations)
        return RunResult(
            fingerprint=fingerprint,
            recipe=recipe.flat(),
            status="completed" if final else "diverged",
            failure=failure,
            final=final and final.metrics,
            test=test.metrics if final and test else None,
            sets=evaluations[-1].sets if final else {},
            evaluations=evaluations,
            curve=Curve(
                train_loss=tuple(recorded.train_loss),
                gradient_norm=tuple(recorded.gradient_norm),
                learning_rate=tuple(recorded.learning_rate),
            ),
            rate_cuts=tuple(rate_cuts(recipe.schedule, recorded.seen(recipe.num_updates))),
            document_losses=final.documents if final else (),
            num_updates=num_updates,
            num_tokens=num_tokens,
            num_flops=num_tokens * flops_per_token(recipe),
            train_seconds=recorded.seconds,
            shared_updates=recorded.shared_updates,
            shared_seconds=recorded.shared_seconds,
            provenance=provenance.model_copy(
                update={"micro_batch_sequences": self.do.micro_batch_sequences, "execution": self.do.execution}
            ),
        )

    def trained(self, lane: int) -> Trained:
        """A lane's model, to be kept."""
        tensors = {name: w[lane].cpu().contiguous() for name, w in {**self.weights, **self.do.state}.items()}
        return Trained(self.recipes[lane], self.dataset.digest, self.dataset.tokenizer, tensors)

    def checkpoint(self, lane: int) -> Checkpoint:
        """A lane's weights, state and moments, without the lane axis, and what has been read of it."""
        tensors = {name: t[lane].cpu().contiguous() for name, t in self._kept().items()}
        return Checkpoint(self.update, tensors, vars(self.recorded[lane]))

    def set_lane(self, lane: int, checkpoint: Checkpoint) -> None:
        """Put a lane back where a checkpoint left it."""
        for name, t in self._kept().items():
            t[lane] = checkpoint.tensors[name]
        self.recorded[lane] = Recorded(**checkpoint.recorded)
        self.do.alive_N[lane] = self.recorded[lane].diverged_at is None
        allowed = self.recorded[lane].micro_batch_sequences
        self.do.micro_batch_sequences = min(self.do.micro_batch_sequences, allowed or self.do.micro_batch_sequences)
        self.update = checkpoint.update
        self.schedule([lane])

    def _kept(self) -> Weights:
        """All that an update changes, by its names in a checkpoint."""
        weights = {f"weights.{name}": w for name, w in {**self.weights, **self.do.state}.items()}
        return weights | {f"moments.{name}": m for name, m in self.do.optimizer.state.items()}

    def _batch(self) -> Tensor:
        """The update's tokens (N, B, T + 1) on the host; lanes of one seed see the same."""
        size, length = self.recipe.train.batch_sequences, self.recipe.model.context_tokens
        of_update = {"update": self.update, "batch_sequences": size, "context_tokens": length}
        by_seed = {seed: batch(self.dataset.train, seed=seed, **of_update) for seed in set(self.seeds)}
        return torch.from_numpy(np.stack([by_seed[seed] for seed in self.seeds]))


def _notes(group: Group, fingerprints: Sequence[str], watches: Sequence[Watch]) -> Iterator[Progress]:
    """What there is to say to a person: what happened, and what the curves read so far give reason to."""
    for fingerprint, recorded, watch in zip(fingerprints, group.recorded, watches, strict=True):
        lines = watch.look(recorded.train_loss, recorded.gradient_norm, recorded.evaluations)
        group.notes += [f"run {fingerprint}, {line}" for line in lines]
    while group.notes:
        yield _progress(group, fingerprints, None, note=group.notes.pop(0))


def _progress(
    group: Group, fingerprints: Sequence[str], updates_per_second: float | None, note: str | None = None
) -> Progress:
    tokens_an_update = group.recipe.update_tokens * len(fingerprints)
    return Progress(
        fingerprints=tuple(fingerprints),
        update=group.update,
        num_updates=group.recipe.num_updates,
        train_losses=tuple(recorded.train_loss[-1] if recorded.train_loss else None for recorded in group.recorded),
        tokens_per_second=None if updates_per_second is None else updates_per_second * tokens_an_update,
        note=note,
    )


def _save(group: Group, fingerprints: Sequence[str], checkpoints: Checkpoints) -> None:
    group.read()
    for lane, fingerprint in enumerate(fingerprints):
        if lane not in group.diverged:  # its result is out: nobody will ask for its state
            checkpoints.save(fingerprint, group.checkpoint(lane))


def _share(group: Group, shared: Sequence[Shared]) -> None:
    """Leave the state of every lane of which others want it."""
    group.read()
    for lane, states in enumerate(shared):
        if lane not in group.diverged and group.update in states.states:
            states.leave(group.checkpoint(lane))


def _restore(group: Group, fingerprints: Sequence[str], checkpoints: Checkpoints, shared: Sequence[Shared]) -> None:
    """Go to the newest update at which every lane has a sound state, its own or shared; else stay at the start."""
    lanes = list(zip(fingerprints, shared, strict=True))
    common = set.intersection(*({*checkpoints.updates(own), *states.updates()} for own, states in lanes))
    for update in sorted(common, reverse=True):
        states = [checkpoints.load(own, update) or states.load(update) for own, states in lanes]
        if all(state is not None for state in states):
            for lane, state in enumerate(states):
                assert state is not None
                group.set_lane(lane, state)
            return


def _finite(number: float) -> float | None:
    return number if np.isfinite(number) else None
