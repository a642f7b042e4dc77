"""The training loop: a group of recipes that share shapes, one lane each, trained to their ends together.

Shapes: N lanes, B sequences of an update, M of a micro-batch, T tokens of a sequence, L layers, E experts.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from blueberry.cost import flops_per_token
from blueberry.lm.checkpoint import Checkpoint, Checkpoints
from blueberry.lm.draws import Draws
from blueberry.lm.evaluation import Look, looks
from blueberry.lm.loss import head_loss
from blueberry.lm.model import LanguageModel
from blueberry.lm.optimizers import Optimizer, clip, gradient_norm
from blueberry.lm.routers import rebalanced
from blueberry.lm.weights import ROUTER_BIAS, Weights, head_weight, initial_state, initialize
from blueberry.recipe import Recipe
from blueberry.records import Curve, Evaluation, Failure, Metrics, Progress, Provenance, RunResult
from blueberry.schedules import multipliers
from blueberry.text import Dataset, EvaluationSet, batch, evaluation_set

PROGRESS_SECONDS = 0.5
CHECKPOINT_SECONDS = 10.0
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


@dataclass(frozen=True)
class Ending:
    """The last look at one lane."""

    final: Look
    test: Metrics | None


class Group:
    """Recipes of one shape key in training. `step` does one update of all lanes; nothing else changes state."""

    def __init__(self, recipes: Sequence[Recipe], dataset: Dataset, device: torch.device) -> None:
        self.recipes, self.dataset, self.device = tuple(recipes), dataset, device
        self.recipe = self.recipes[0]
        self.seeds = tuple(recipe.seed for recipe in self.recipes)
        self.model = LanguageModel.build(self.recipe, device)
        self.weights = initialize(self.recipe, self.seeds, device)
        self.state = initial_state(self.recipe, len(self.recipes), device)
        """What the model carries from update to update and no gradient trains."""
        self.optimizer = Optimizer(self.recipes, self.weights, device)
        self.multipliers_UN = torch.tensor(list(zip(*map(multipliers, self.recipes), strict=True)), dtype=torch.float32)
        self.alive_N = torch.ones(len(self.recipes), dtype=torch.bool, device=device)
        self.recorded = [Recorded() for _ in self.recipes]
        self.update = 0
        self.unread: list[Tensor] = []
        """Losses and norms (2, N) of updates whose numbers still lie on the device."""
        self.noise_N = self._lanes("model.feed_forward.router_noise")
        self.balance_N = self._lanes("model.feed_forward.balance_weight")
        z_N = self._lanes("model.feed_forward.z_weight")
        self.z_N = z_N if z_N is not None and z_N.any() else None  # a backward pass for nothing is not free
        self.bias_rate_N = self._lanes("model.feed_forward.bias_rate")
        self.load_NLE: Tensor | None = None
        """Assignments of the last update's tokens, which a bias-balanced router learns from."""

    def step(self) -> None:
        """One optimizer step of every lane. A lane whose loss or gradient is not finite is frozen for good."""
        tokens_NBT1 = self._batch()
        loss_N, grads = self._gradients(tokens_NBT1)
        norm_N = gradient_norm(grads)
        self.alive_N &= loss_N.isfinite() & norm_N.isfinite()
        clip(grads, norm_N, self.optimizer.rates.clip_N, self.alive_N)
        multiplier_N = self.multipliers_UN[self.update].to(self.device) * self.alive_N
        self.optimizer.step(self.weights, grads, update=self.update, multiplier_N=multiplier_N)
        if self.bias_rate_N is not None and self.load_NLE is not None:
            rate_N = self.bias_rate_N * self.alive_N
            self.state[ROUTER_BIAS] = rebalanced(self.state[ROUTER_BIAS], self.load_NLE, rate_N)
        self.unread.append(torch.stack((loss_N, norm_N)))
        self.update += 1

    def read(self) -> None:
        """Fetch the numbers of the updates since the last read into the records."""
        if not self.unread:
            return
        first = self.update - len(self.unread)
        numbers_U2N = torch.stack(self.unread).cpu()
        self.unread.clear()
        rates_UN = self.multipliers_UN[first : self.update] * self.optimizer.rates.muon_N.cpu()
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
        return looks(self.model, {**self.weights, **self.state}, held_out, self.dataset.token_bytes)

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
        self.update = checkpoint.update

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

    def _gradients(self, tokens_NBT1: Tensor) -> tuple[Tensor, Weights]:
        """Mean cross-entropy (N,) over the update's tokens, and the gradients of the whole objective."""
        size, micro = self.recipe.train.batch_sequences, self.recipe.micro_batch_sequences
        parts = [range(start, start + micro) for start in range(0, size, micro)]
        # The balance loss is not a sum over tokens: with several micro-batches, the shares of the whole
        # update are counted first, so that splitting an update changes no number.
        counts_first = len(parts) > 1 and self.balance_N is not None
        fraction_NLE = self._fractions(tokens_NBT1, parts) if counts_first else None
        loss_N = torch.zeros(len(self.recipes), device=self.device)
        grads: Weights = {}
        loads: list[Tensor] = []
        for part in parts:
            leaves = {name: w.detach().requires_grad_() for name, w in self.weights.items()}
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
            for name, grad in zip(leaves, part_grads, strict=True):
                grads[name] = grads[name].add_(grad) if name in grads else grad
            loss_N += part_loss_N.detach()
        self.load_NLE = sum(loads[1:], loads[0]) if loads else None
        return loss_N, grads

    @torch.no_grad()
    def _fractions(self, tokens_NBT1: Tensor, parts: list[range]) -> Tensor | None:
        """The share of the whole update's assignments that each expert receives, (N, L, E)."""
        loads = [
            self.model.hidden(
                {**self.weights, **self.state},
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
        return Draws(self.seeds, self.update, part, self.device)

    def _lanes(self, name: str) -> Tensor | None:
        """A setting of every lane, (N,); None where the recipe's kind has no such setting."""
        if name not in self.recipe.flat():
            return None
        return torch.tensor([recipe.get(name) for recipe in self.recipes], dtype=torch.float32, device=self.device)


def train(
    recipes: Sequence[Recipe],
    fingerprints: Sequence[str],
    dataset: Dataset,
    provenance: Provenance,
    *,
    device: torch.device,
    checkpoints: Checkpoints | None = None,
) -> Iterator[Progress | RunResult]:
    """Train recipes of one shape key, one lane each: Progress now and then, and one RunResult each.

    `provenance` is completed with the digest of the evaluation set. With `checkpoints`, the group goes on from
    the newest state all its lanes have, and saves its own every few seconds.
    """
    group = Group(recipes, dataset, device)
    recipe = group.recipe
    cut = {"context_tokens": recipe.model.context_tokens, "num_tokens": recipe.evaluate.tokens}
    validation, test = evaluation_set(dataset.validation, **cut), evaluation_set(dataset.test, **cut)
    provenance = provenance.model_copy(update={"evaluation_digest": validation.digest})
    if checkpoints is not None:
        _restore(group, fingerprints, checkpoints)
    yielded: set[int] = set()
    last_progress = last_checkpoint = mark = time.monotonic()
    measured_from = group.update
    while group.update < recipe.num_updates and len(yielded) < len(recipes):
        started = time.monotonic()
        group.step()
        ends = group.update == recipe.num_updates
        evaluates = ends or group.update % recipe.evaluate.every_updates == 0
        if device.type == "cpu" or evaluates or len(group.unread) >= UPDATES_BETWEEN_READS:
            group.read()
        now = time.monotonic()
        for recorded in group.recorded:
            recorded.seconds += (now - started) / len(recipes)
        if evaluates and not ends:
            _note(group, group.look(validation))
        for lane, recorded in enumerate(group.recorded):
            if recorded.diverged_at is not None and lane not in yielded:
                yielded.add(lane)
                yield _result(group, lane, fingerprints[lane], provenance, None)
        now = time.monotonic()
        if now - last_progress >= PROGRESS_SECONDS:
            yield _progress(group, fingerprints, (group.update - measured_from) / (now - mark))
            last_progress = now
        if checkpoints is not None and now - last_checkpoint >= CHECKPOINT_SECONDS and not ends:
            _save(group, fingerprints, checkpoints, leave_out=yielded)
            last_checkpoint = time.monotonic()
    endings = group.finish(validation, test) if len(yielded) < len(recipes) else []
    _note(group, [ending and ending.final for ending in endings])
    for lane, ending in enumerate(endings):
        if lane not in yielded:
            if ending is None:
                group.recorded[lane].diverged_at = group.update
            yield _result(group, lane, fingerprints[lane], provenance, ending)


def _note(group: Group, looks: Sequence[Look | None]) -> None:
    """Record an evaluation of the lanes that live. `looks` is empty when none does."""
    for recorded, measured in zip(group.recorded, looks, strict=False):
        if measured is not None and recorded.diverged_at is None:
            evaluation = Evaluation(
                update=group.update,
                tokens=group.update * group.recipe.update_tokens,
                seconds=recorded.seconds,
                validation=measured.metrics,
                routing=measured.routing,
            )
            recorded.evaluations.append(evaluation.model_dump())


def _progress(group: Group, fingerprints: Sequence[str], updates_per_second: float) -> Progress:
    return Progress(
        fingerprints=tuple(fingerprints),
        update=group.update,
        num_updates=group.recipe.num_updates,
        train_losses=tuple(recorded.train_loss[-1] if recorded.train_loss else None for recorded in group.recorded),
        tokens_per_second=updates_per_second * group.recipe.update_tokens * len(fingerprints),
    )


def _result(group: Group, lane: int, fingerprint: str, provenance: Provenance, ending: Ending | None) -> RunResult:
    recipe, recorded = group.recipes[lane], group.recorded[lane]
    num_updates = recorded.diverged_at or group.update
    failure = None
    if ending is None:
        failure = Failure(
            kind="diverged", update=recorded.diverged_at, message="the loss or its gradient was not finite"
        )
    num_tokens = num_updates * recipe.update_tokens
    return RunResult(
        fingerprint=fingerprint,
        recipe=recipe.flat(),
        status="diverged" if ending is None else "completed",
        failure=failure,
        final=ending.final.metrics if ending else None,
        test=ending.test if ending else None,
        evaluations=tuple(Evaluation.model_validate(evaluation) for evaluation in recorded.evaluations),
        curve=Curve(
            train_loss=tuple(recorded.train_loss),
            gradient_norm=tuple(recorded.gradient_norm),
            learning_rate=tuple(recorded.learning_rate),
        ),
        document_losses=ending.final.documents if ending else (),
        num_updates=num_updates,
        num_tokens=num_tokens,
        num_flops=num_tokens * flops_per_token(recipe),
        train_seconds=recorded.seconds,
        provenance=provenance,
    )


def _save(group: Group, fingerprints: Sequence[str], checkpoints: Checkpoints, leave_out: set[int]) -> None:
    group.read()
    for lane, fingerprint in enumerate(fingerprints):
        if lane in leave_out:  # its result is out: nobody will ask for its state
            continue
        state = Checkpoint(group.update, group.lane_tensors(lane), vars(group.recorded[lane]))
        checkpoints.save(fingerprint, state)


def _restore(group: Group, fingerprints: Sequence[str], checkpoints: Checkpoints) -> None:
    """Go to the newest update at which every lane has a sound checkpoint; else stay at the start."""
    common = set.intersection(*(set(checkpoints.updates(fingerprint)) for fingerprint in fingerprints))
    for update in sorted(common, reverse=True):
        states = [checkpoints.load(fingerprint, update) for fingerprint in fingerprints]
        if all(state is not None for state in states):
            for lane, state in enumerate(states):
                assert state is not None
                group.set_lane(lane, state)
            return


def _finite(number: float) -> float | None:
    return number if np.isfinite(number) else None
