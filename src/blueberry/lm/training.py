"""The training loop: a group of recipes that share shapes, one lane each, trained to their ends together."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from blueberry.architecture import Experts, flops_per_token
from blueberry.curves import Watch
from blueberry.lm.checkpoint import Checkpoint, Checkpoints, Shared
from blueberry.lm.evaluation import Look
from blueberry.lm.group import Ending, Group
from blueberry.lm.trained import Trained, save_weights
from blueberry.lm.weights import Precision
from blueberry.recipe import Recipe
from blueberry.records import Curve, Evaluation, Failure, Metrics, Progress, Provenance, RunResult
from blueberry.schedules import rate_cuts
from blueberry.text import Dataset, evaluation_set, require_a_batch

PROGRESS_SECONDS = 0.5
CHECKPOINT_SECONDS = 10.0
"""At least so long from one checkpoint to the next; 0: one after every update."""
CHECKPOINT_SHARE = 0.02
"""Of the time, at most, that goes into saving: the last save says how long one takes."""
UPDATES_BETWEEN_READS = 16
"""On a device that computes ahead of the host, losses are fetched this seldom."""


def train(
    recipes: Sequence[Recipe],
    fingerprints: Sequence[str],
    dataset: Dataset,
    provenance: Provenance,
    *,
    device: torch.device,
    precision: Precision | None = None,
    checkpoints: Checkpoints | None = None,
    weights_folder: Path | None = None,
) -> Iterator[Progress | RunResult]:
    """Train recipes of one shape key, one lane each: Progress now and then, and one RunResult each.

    `precision` is what train.precision was resolved to; needed where that is "auto". `provenance` is completed
    with what is known here. With `checkpoints`, the group goes on from the newest state all its lanes have, its own
    or shared with others; it saves its own every few seconds, and leaves those that others want. With
    `weights_folder`, the final weights of runs whose recipe keeps them are there when their results are given.
    Raises: DataError if a split is too short for a window or an update, StoreError if the disk refuses.
    """
    group = Group(recipes, dataset, device, precision)
    recipe = group.recipe
    require_a_batch(
        dataset.train, batch_sequences=recipe.train.batch_sequences, context_tokens=recipe.model.context_tokens
    )
    cut = {"context_tokens": recipe.model.context_tokens, "num_tokens": recipe.evaluate.tokens}
    validation, test = evaluation_set(dataset.validation, **cut), evaluation_set(dataset.test, **cut)
    sets = {name: evaluation_set(split, **cut) for name, split in dataset.sets.items()}
    known = {"evaluation_digest": validation.digest, "lanes": len(recipes), "precision": group.precision}
    provenance = provenance.model_copy(update=known)
    shared: list[Shared] = []
    if checkpoints is not None:
        named = zip(recipes, fingerprints, strict=True)
        shared = [Shared.of(recipe, name, dataset.digest, checkpoints) for recipe, name in named]
        _restore(group, fingerprints, checkpoints, shared)
    wanted = {update for lane in shared for update in lane.states}
    watches = [Watch(_num_experts(recipe)) for recipe in recipes]
    _warn(group, fingerprints, watches)
    group.notes.clear()  # said before the interruption
    yielded: set[int] = set()
    last_progress = last_checkpoint = mark = time.monotonic()
    measured_from, wait = group.update, CHECKPOINT_SECONDS
    while group.update < recipe.num_updates and len(yielded) < len(recipes):
        started = time.monotonic()
        group.step()
        ends = group.update == recipe.num_updates
        evaluates = group.evaluates_after(group.update)
        if device.type == "cpu" or evaluates or len(group.unread) >= UPDATES_BETWEEN_READS:
            group.read()
        now = time.monotonic()
        for recorded in group.recorded:
            recorded.seconds += (now - started) / len(recipes)
        if evaluates and not ends:
            _note(group, group.look(validation), group.look_at_sets(sets))
        for lane, recorded in enumerate(group.recorded):
            if recorded.diverged_at is not None and lane not in yielded:
                yielded.add(lane)
                yield _result(group, lane, fingerprints[lane], provenance, None)
        now = time.monotonic()
        _warn(group, fingerprints, watches)
        while group.notes:
            yield _progress(group, fingerprints, None, note=group.notes.pop(0))
        if now - last_progress >= PROGRESS_SECONDS:
            yield _progress(group, fingerprints, (group.update - measured_from) / (now - mark))
            last_progress = now
        if group.update in wanted:
            _share(group, shared)
        if checkpoints is not None and now - last_checkpoint >= wait and not ends:
            _save(group, fingerprints, checkpoints, leave_out=yielded)
            last_checkpoint = time.monotonic()
            wait = max(CHECKPOINT_SECONDS, (last_checkpoint - now) / CHECKPOINT_SHARE) if CHECKPOINT_SECONDS else 0.0
    endings = group.finish(validation, test) if len(yielded) < len(recipes) else []
    _note(group, [ending and ending.final for ending in endings], group.look_at_sets(sets) if endings else [])
    _warn(group, fingerprints, watches)
    while group.notes:
        yield _progress(group, fingerprints, None, note=group.notes.pop(0))
    for lane, ending in enumerate(endings):
        if lane not in yielded:
            if ending is None:
                group.recorded[lane].diverged_at = group.update
            elif weights_folder is not None and group.recipes[lane].train.keep_weights:
                _keep_weights(group, lane, weights_folder / f"{fingerprints[lane]}.safetensors")
            yield _result(group, lane, fingerprints[lane], provenance, ending)


def _note(group: Group, looks: Sequence[Look | None], sets: Sequence[dict[str, Metrics]]) -> None:
    """Record an evaluation of the lanes that live, and let their schedules see it.

    `looks` and `sets` are empty when none lives.
    """
    assert group.movement is not None or not looks
    moved = group.movement.statistics() if group.movement is not None else []
    for lane, (recorded, measured, named) in enumerate(zip(group.recorded, looks, sets, strict=False)):
        if measured is not None and recorded.diverged_at is None:
            evaluation = Evaluation(
                update=group.update,
                tokens=group.update * group.recipe.update_tokens,
                seconds=recorded.seconds,
                validation=measured.metrics,
                sets=named,
                routing=measured.routing,
                groups=moved[lane],
            )
            recorded.evaluations.append(evaluation.model_dump(mode="json"))
            if group.recipes[lane].schedule.kind == "plateau":
                group.schedule([lane])


def _warn(group: Group, fingerprints: Sequence[str], watches: Sequence[Watch]) -> None:
    """Note what the curves read so far give reason to say. It changes no number."""
    for fingerprint, recorded, watch in zip(fingerprints, group.recorded, watches, strict=True):
        lines = watch.look(recorded.train_loss, recorded.gradient_norm, recorded.evaluations)
        group.notes += [f"run {fingerprint}, {line}" for line in lines]


def _num_experts(recipe: Recipe) -> int | None:
    feed_forward = recipe.model.feed_forward
    return feed_forward.num_experts if isinstance(feed_forward, Experts) else None


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


def _result(group: Group, lane: int, fingerprint: str, provenance: Provenance, ending: Ending | None) -> RunResult:
    recipe, recorded = group.recipes[lane], group.recorded[lane]
    num_updates = recorded.diverged_at or group.update
    failure = None
    if ending is None:
        failure = Failure(
            kind="diverged", update=recorded.diverged_at, message="the loss or its gradient was not finite"
        )
    num_tokens = num_updates * recipe.update_tokens
    evaluations = tuple(Evaluation.model_validate(evaluation) for evaluation in recorded.evaluations)
    return RunResult(
        fingerprint=fingerprint,
        recipe=recipe.flat(),
        status="diverged" if ending is None else "completed",
        failure=failure,
        final=ending.final.metrics if ending else None,
        test=ending.test if ending else None,
        sets=evaluations[-1].sets if ending else {},
        evaluations=evaluations,
        curve=Curve(
            train_loss=tuple(recorded.train_loss),
            gradient_norm=tuple(recorded.gradient_norm),
            learning_rate=tuple(recorded.learning_rate),
        ),
        rate_cuts=tuple(rate_cuts(recipe.schedule, recorded.seen(recipe.num_updates))),
        document_losses=ending.final.documents if ending else (),
        num_updates=num_updates,
        num_tokens=num_tokens,
        num_flops=num_tokens * flops_per_token(recipe),
        train_seconds=recorded.seconds,
        shared_updates=recorded.shared_updates,
        shared_seconds=recorded.shared_seconds,
        provenance=provenance.model_copy(
            update={"micro_batch_sequences": group.do.micro_batch_sequences, "execution": group.do.execution}
        ),
    )


def _keep_weights(group: Group, lane: int, path: Path) -> None:
    tensors = {name: w[lane].cpu().contiguous() for name, w in {**group.weights, **group.do.state}.items()}
    save_weights(path, Trained(group.recipes[lane], group.dataset.digest, group.dataset.tokenizer, tensors))


def _save(group: Group, fingerprints: Sequence[str], checkpoints: Checkpoints, leave_out: set[int]) -> None:
    group.read()
    for lane, fingerprint in enumerate(fingerprints):
        if lane in leave_out:  # its result is out: nobody will ask for its state
            continue
        checkpoints.save(fingerprint, _checkpoint(group, lane))


def _share(group: Group, shared: Sequence[Shared]) -> None:
    """Leave the state of every lane of which others want it."""
    group.read()
    for lane, states in enumerate(shared):
        if group.recorded[lane].diverged_at is None and group.update in states.states:
            states.leave(_checkpoint(group, lane))


def _checkpoint(group: Group, lane: int) -> Checkpoint:
    return Checkpoint(group.update, group.lane_tensors(lane), vars(group.recorded[lane]))


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
