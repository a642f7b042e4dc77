"""A group of recipes in training: one lane each, one update at a time.

Shapes: N lanes, B sequences of an update, M of a micro-batch, T tokens of a sequence, L layers, E experts.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from blueberry.lm.checkpoint import Checkpoint
from blueberry.lm.evaluation import Look, looks
from blueberry.lm.model import LanguageModel
from blueberry.lm.optimizers import Movement, moved
from blueberry.lm.update import Inputs, Update, execution_of, update_keys
from blueberry.lm.weights import Precision, Weights, compute_weights, initialize
from blueberry.recipe import Recipe
from blueberry.records import Execution, Metrics
from blueberry.schedules import multipliers
from blueberry.text import Dataset, EvaluationSet, batch


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


@dataclass(frozen=True)
class Ending:
    """The last look at one lane."""

    final: Look
    test: Metrics | None


class Group:
    """Recipes of one shape key in training. `step` does one update of all lanes; nothing else changes state."""

    def __init__(
        self,
        recipes: Sequence[Recipe],
        dataset: Dataset,
        device: torch.device,
        precision: Precision | None = None,
        execution: Execution | None = None,
    ) -> None:
        """`precision` is what the recipes' train.precision was resolved to; needed where that is "auto"."""
        self.recipes, self.dataset, self.device = tuple(recipes), dataset, device
        self.recipe = self.recipes[0]
        asked = self.recipe.train.precision
        self.precision: Precision = precision or ("bf16" if asked == "bf16" else "fp32")
        assert asked in (self.precision, "auto")
        assert precision is not None or asked != "auto"
        self.notes: list[str] = []
        """Lines for a person, not yet said."""
        self.seeds = tuple(recipe.seed for recipe in self.recipes)
        model = LanguageModel.build(self.recipe, device, dataset.tokenizer.separator)
        self.weights = initialize(self.recipe, self.seeds, device)
        execution = execution or execution_of(self.recipe, device, self.precision)
        self.do = Update(self.recipes, model, self.weights, device, self.precision, execution)
        self.multipliers_UN = torch.empty(self.recipe.num_updates, len(self.recipes))
        """Of the peak rates; a schedule that adapts rewrites its lane's from the update it is at."""
        self.recorded = [Recorded() for _ in self.recipes]
        self.schedule(range(len(self.recipes)))
        self.update = 0
        self.movement: Movement | None = None
        """Of the last update that an evaluation follows."""
        self.unread: list[Tensor] = []
        """Losses and norms (2, N) of updates whose numbers still lie on the device."""

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
            rates = self.do.optimizer.rates.used(inputs.multiplier_N * self.do.alive_N)
            self.movement = moved(before, self.weights, outcome.norms_GN, rates)
        self.unread.append(outcome.numbers_2N)
        self.update += 1

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
        """What the next update is given."""
        on_host = Inputs(
            self._batch(),
            update_keys(self.recipe, self.seeds, self.update),
            self.multipliers_UN[self.update],
            self.do.optimizer.rates.bias_corrections(self.update),
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
        rates_UN = self.multipliers_UN[first : self.update] * self.do.optimizer.rates.peak_N["matrices"].cpu()
        for lane, recorded in enumerate(self.recorded):
            for offset, (loss, norm) in enumerate(numbers_U2N[:, :, lane].tolist()):
                if recorded.diverged_at is not None:
                    break
                recorded.train_loss.append(_finite(loss))
                recorded.gradient_norm.append(_finite(norm))
                recorded.learning_rate.append(rates_UN[offset, lane].item())
                if _finite(loss) is None or _finite(norm) is None:
                    recorded.diverged_at = first + offset + 1

    def look(self, held_out: EvaluationSet) -> list[Look | None]:
        """Measure every lane; None for a lane whose loss is not finite."""
        return looks(self.do.model, self.evaluation_weights(), held_out, self.dataset.token_bytes)

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

    def finish(self, validation: EvaluationSet, test: EvaluationSet) -> list[Ending | None]:
        """The last look, at both held-out sets; None for a lane that has diverged."""
        pairs = zip(self.look(validation), self.look(test), strict=True)
        return [final and Ending(final, tested.metrics if tested else None) for final, tested in pairs]

    def lane_tensors(self, lane: int) -> Weights:
        """A lane's weights, state and moments, without the lane axis."""
        tensors = {f"weights.{name}": w[lane] for name, w in {**self.weights, **self.do.state}.items()}
        moments = {f"moments.{name}": m[lane] for name, m in self.do.optimizer.state.items()}
        return {name: t.cpu().contiguous() for name, t in {**tensors, **moments}.items()}

    def set_lane(self, lane: int, checkpoint: Checkpoint) -> None:
        """Put a lane back where a checkpoint left it."""
        for name, w in {**self.weights, **self.do.state}.items():
            w[lane] = checkpoint.tensors[f"weights.{name}"]
        for name, m in self.do.optimizer.state.items():
            m[lane] = checkpoint.tensors[f"moments.{name}"]
        self.recorded[lane] = Recorded(**checkpoint.recorded)
        self.do.alive_N[lane] = self.recorded[lane].diverged_at is None
        allowed = self.recorded[lane].micro_batch_sequences
        self.do.micro_batch_sequences = min(self.do.micro_batch_sequences, allowed or self.do.micro_batch_sequences)
        self.update = checkpoint.update
        self.schedule([lane])

    def _batch(self) -> Tensor:
        """The update's tokens (N, B, T + 1) on the host; lanes of one seed see the same."""
        model, size = self.recipe.model, self.recipe.train.batch_sequences
        by_seed = {
            seed: batch(
                self.dataset.train,
                seed=seed,
                update=self.update,
                batch_sequences=size,
                context_tokens=model.context_tokens,
            )
            for seed in set(self.seeds)
        }
        return torch.from_numpy(np.stack([by_seed[seed] for seed in self.seeds]))


def _finite(number: float) -> float | None:
    return number if np.isfinite(number) else None
