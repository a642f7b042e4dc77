"""A group of recipes in training: one lane each, one update at a time.

Shapes: N lanes, B sequences of an update, M of a micro-batch, T tokens of a sequence, L layers, E experts.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from blueberry.architecture import ROUTER_BIAS
from blueberry.lm.checkpoint import Checkpoint
from blueberry.lm.draws import SITES_A_LAYER, Draws
from blueberry.lm.evaluation import Look, looks
from blueberry.lm.feed_forward import rebalanced
from blueberry.lm.layers import head_loss
from blueberry.lm.memory import free, is_out_of_memory, smaller_micro_batch
from blueberry.lm.model import LanguageModel
from blueberry.lm.optimizers import Movement, Optimizer, Standing, clip, gradient_norm
from blueberry.lm.weights import Precision, Weights, compute_weights, head_weight, initial_state, initialize
from blueberry.recipe import Recipe
from blueberry.records import Metrics
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
        self, recipes: Sequence[Recipe], dataset: Dataset, device: torch.device, precision: Precision | None = None
    ) -> None:
        """`precision` is what the recipes' train.precision was resolved to; needed where that is "auto"."""
        self.recipes, self.dataset, self.device = tuple(recipes), dataset, device
        self.recipe = self.recipes[0]
        asked = self.recipe.train.precision
        self.precision: Precision = precision or ("bf16" if asked == "bf16" else "fp32")
        assert asked in (self.precision, "auto")
        assert precision is not None or asked != "auto"
        self.micro_batch_sequences = self.recipe.micro_batch_sequences
        self.notes: list[str] = []
        """Lines for a person, not yet said."""
        self.seeds = tuple(recipe.seed for recipe in self.recipes)
        self.model = LanguageModel.build(self.recipe, device, dataset.tokenizer.separator)
        self.weights = initialize(self.recipe, self.seeds, device)
        self.state = initial_state(self.recipe, len(self.recipes), device)
        """What the model carries from update to update and no gradient trains."""
        self.optimizer = Optimizer(self.recipes, self.weights, device)
        self.multipliers_UN = torch.empty(self.recipe.num_updates, len(self.recipes))
        """Of the peak rates; a schedule that adapts rewrites its lane's from the update it is at."""
        self.alive_N = torch.ones(len(self.recipes), dtype=torch.bool, device=device)
        self.recorded = [Recorded() for _ in self.recipes]
        self.schedule(range(len(self.recipes)))
        self.update = 0
        self.movement: Movement | None = None
        """Of the last update that an evaluation follows."""
        self.unread: list[Tensor] = []
        """Losses and norms (2, N) of updates whose numbers still lie on the device."""
        self.noise_N = self._lanes("model.feed_forward.router_noise")
        # A backward pass for nothing is not free, nor is a forward pass that counts where tokens go.
        self.balance_N = _unless_all_0(self._lanes("model.feed_forward.balance_weight"))
        self.z_N = _unless_all_0(self._lanes("model.feed_forward.z_weight"))
        self.bias_rate_N = self._lanes("model.feed_forward.bias_rate")
        self.load_NLE: Tensor | None = None
        """Assignments of the last update's tokens, which a bias-balanced router learns from."""

    def step(self) -> None:
        """One optimizer step of every lane. A lane whose loss or gradient is not finite is frozen for good."""
        tokens_NBT1 = self._batch()
        loss_N, grads = self._fitting_gradients(tokens_NBT1)
        norm_N = gradient_norm(grads)
        self.alive_N &= loss_N.isfinite() & norm_N.isfinite()
        multiplier_N = self.multipliers_UN[self.update].to(self.device) * self.alive_N
        before = Standing.of(self.weights, grads) if self.evaluates_after(self.update + 1) else None
        clip(grads, norm_N, self.optimizer.rates.clip_N, self.alive_N)
        self.optimizer.step(self.weights, grads, update=self.update, multiplier_N=multiplier_N)
        if before is not None:
            self.movement = before.moved_to(self.weights, self.optimizer.rates.used(multiplier_N))
        if self.bias_rate_N is not None and self.load_NLE is not None:
            rate_N = self.bias_rate_N * self.alive_N
            self.state[ROUTER_BIAS] = rebalanced(self.state[ROUTER_BIAS], self.load_NLE, rate_N)
        self.unread.append(torch.stack((loss_N, norm_N)))
        self.update += 1

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
        rates_UN = self.multipliers_UN[first : self.update] * self.optimizer.rates.peak_N["matrices"].cpu()
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
        return looks(self.model, self.evaluation_weights(), held_out, self.dataset.token_bytes)

    def evaluation_weights(self) -> Weights:
        """What the model is evaluated with, in the precision of training: the trained weights and the state."""
        return {**compute_weights(self.weights, self.precision), **self.state}

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
        tensors = {f"weights.{name}": w[lane] for name, w in {**self.weights, **self.state}.items()}
        moments = {f"moments.{name}": m[lane] for name, m in self.optimizer.state.items()}
        return {name: t.cpu().contiguous() for name, t in {**tensors, **moments}.items()}

    def set_lane(self, lane: int, checkpoint: Checkpoint) -> None:
        """Put a lane back where a checkpoint left it."""
        for name, w in {**self.weights, **self.state}.items():
            w[lane] = checkpoint.tensors[f"weights.{name}"]
        for name, m in self.optimizer.state.items():
            m[lane] = checkpoint.tensors[f"moments.{name}"]
        self.recorded[lane] = Recorded(**checkpoint.recorded)
        self.alive_N[lane] = self.recorded[lane].diverged_at is None
        allowed = self.recorded[lane].micro_batch_sequences
        self.micro_batch_sequences = min(self.micro_batch_sequences, allowed or self.micro_batch_sequences)
        self.update = checkpoint.update
        self.schedule([lane])

    def _batch(self) -> Tensor:
        """The update's tokens (N, B, T + 1); lanes of one seed see the same."""
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
        return torch.from_numpy(np.stack([by_seed[seed] for seed in self.seeds])).to(self.device)

    def _fitting_gradients(self, tokens_NBT1: Tensor) -> tuple[Tensor, Weights]:
        """The gradients, in smaller micro-batches from now on if memory runs out. See `blueberry.lm.lanes`."""
        while True:
            before = self.micro_batch_sequences
            try:
                return self._gradients(tokens_NBT1)
            except (RuntimeError, MemoryError) as error:
                smaller = smaller_micro_batch(self.recipe.train.batch_sequences, before)
                if not is_out_of_memory(error) or smaller is None:
                    raise
            free(self.device)  # only outside of `except` are the tensors of the failed attempt out of reach
            self.micro_batch_sequences = smaller
            for recorded in self.recorded:
                recorded.micro_batch_sequences = smaller
            self.notes.append(
                f"out of memory with {before} sequences at once: going on with micro-batches of {smaller}; "
                f"only rounding changes; train.micro_batch_sequences = {smaller} begins with that"
            )

    def _gradients(self, tokens_NBT1: Tensor) -> tuple[Tensor, Weights]:
        """Mean cross-entropy (N,) over the update's tokens, and the gradients of the whole objective."""
        size, micro = self.recipe.train.batch_sequences, self.micro_batch_sequences
        parts = [range(start, start + micro) for start in range(0, size, micro)]
        # The balance loss is not a sum over tokens: with several micro-batches, the shares of the whole
        # update are counted first, so that splitting an update changes no number.
        weights = compute_weights(self.weights, self.precision)
        counts_first = len(parts) > 1 and self.balance_N is not None
        fraction_NLE = self._fractions(weights, tokens_NBT1, parts) if counts_first else None
        loss_N = torch.zeros(len(self.recipes), device=self.device)
        grads: Weights = {}
        loads: list[Tensor] = []
        for part in parts:
            leaves = {name: w.detach().requires_grad_() for name, w in weights.items()}
            tokens_NMT1 = tokens_NBT1[:, part.start : part.stop]
            hidden = self.model.hidden(
                {**leaves, **self.state},
                tokens_NMT1[..., :-1],
                draws=self._draws(part),
                noise_N=self.noise_N,
                fraction_NLE=fraction_NLE,
            )
            target_NS = tokens_NMT1[..., 1:].flatten(1)
            part_loss_N = head_loss(hidden.x_NSD, head_weight(leaves), target_NS) / tokens_NBT1[0, :, 1:].numel()
            objective_N = part_loss_N
            if hidden.balance_N is not None and self.balance_N is not None:
                objective_N = objective_N + self.balance_N * hidden.balance_N * (micro / size)
            if hidden.z_N is not None and self.z_N is not None:
                objective_N = objective_N + self.z_N * hidden.z_N * (micro / size)
            if hidden.load_NLE is not None:
                loads.append(hidden.load_NLE)
            part_grads = torch.autograd.grad(objective_N.sum(), list(leaves.values()))
            for name, part_grad in zip(leaves, part_grads, strict=True):
                grad = part_grad.to(self.weights[name].dtype)
                grads[name] = grads[name].add_(grad) if name in grads else grad
            loss_N += part_loss_N.detach()
        self.load_NLE = sum(loads[1:], loads[0]) if loads else None
        return loss_N, grads

    @torch.no_grad()
    def _fractions(self, weights: Weights, tokens_NBT1: Tensor, parts: list[range]) -> Tensor | None:
        """The share of the whole update's assignments that each expert receives, (N, L, E)."""
        loads = [
            self.model.hidden(
                {**weights, **self.state},
                tokens_NBT1[:, part.start : part.stop, :-1],
                draws=self._draws(part),
                noise_N=self.noise_N,
            ).load_NLE
            for part in parts
        ]
        counted = [load for load in loads if load is not None]
        if not counted:
            return None
        total_NLE = torch.stack(counted).sum(0)
        return total_NLE / total_NLE.sum(-1, keepdim=True)

    def _draws(self, part: range) -> Draws:
        num_sites = SITES_A_LAYER * (self.recipe.model.num_layers + 1)
        return Draws(self.seeds, self.update, part, self.device, num_sites)

    def _lanes(self, name: str) -> Tensor | None:
        """A setting of every lane, (N,); None where the recipe's kind has no such setting."""
        if name not in self.recipe.flat():
            return None
        return torch.tensor([recipe.get(name) for recipe in self.recipes], dtype=torch.float32, device=self.device)


def _unless_all_0(values_N: Tensor | None) -> Tensor | None:
    return values_N if values_N is not None and values_N.any() else None


def _finite(number: float) -> float | None:
    return number if np.isfinite(number) else None
