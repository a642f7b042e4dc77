"""A trainer with a known answer: it computes in microseconds what training might have measured.

The expected loss is a valley over the logarithm of one setting; above a limit every run diverges. Noise is drawn
by (arm, seed), with a part that all arms share on a seed. For tests, demonstrations and the truth benchmark.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from blueberry.architecture import cost
from blueberry.files import canonical_json, digest
from blueberry.recipe import Recipe, fingerprint
from blueberry.records import Curve, Evaluation, Failure, Metrics, Progress, Provenance, RunResult

_DATA_DIGEST = digest("blueberry/synthetic/1")
BYTES_PER_TOKEN = 3.0
TOKENS_PER_SECOND = 1e6
"""Pretended."""
PROGRESS_SECONDS = 0.05


@dataclass(frozen=True)
class Synthetic:
    """Call it with recipes. Its parameters are the truth that a study should find."""

    setting: str = "optimizer.muon.learning_rate"
    optimum: float = 0.03
    """The value of the setting with the least expected loss."""
    floor_nats: float = 3.5
    """The expected loss there."""
    curvature_nats: float = 0.05
    """Of the valley left of the optimum: excess loss at a factor of e from it."""
    right_over_left: float = 2.0
    """How much steeper the valley is on the right."""
    diverges_above: float | None = 1.0
    """Runs with a greater value of the setting diverge; None: none does."""
    noise_nats: float = 0.003
    """Standard deviation of one run around its expected loss."""
    rho: float = 0.5
    """Correlation between arms on the same seed: the share of the noise's variance that belongs to the seed."""
    effects: tuple[tuple[str, float], ...] = ()
    """Other numeric settings that matter: dotted name, nats for each unit above the default recipe's value."""
    interactions: tuple[tuple[str, str, float], ...] = ()
    """Pairs of numeric settings: nats for each product of their distances from the default recipe's values."""
    choices: tuple[tuple[str, str, float], ...] = ()
    """Settings that are words: dotted name, value, nats when the recipe has that value."""
    moves: tuple[tuple[str, float], ...] = ()
    """Settings that move the optimum: dotted name, power of their ratio to the default recipe's value."""
    seconds_per_group: float = 0.0
    """To pretend that training takes: saying Progress on the way."""

    def __call__(self, recipes: Sequence[Recipe]) -> Iterator[RunResult | Progress]:
        yield from self._pretend_to_train(recipes)
        for recipe in recipes:
            yield self.result(recipe)

    @staticmethod
    def data_digest(recipe: Recipe) -> str:
        """To plan with: it reads no text."""
        return _DATA_DIGEST

    def expected_nats(self, recipe: Recipe) -> float | None:
        """The mean of the final loss over seeds; None where runs diverge."""
        value = recipe.get(self.setting)
        if self.diverges_above is not None and value > self.diverges_above:
            return None
        default = Recipe()
        moved = (power * math.log(recipe.get(name) / default.get(name)) for name, power in self.moves)
        distance = math.log(value / self.optimum) - math.fsum(moved)
        steepness = self.curvature_nats * (self.right_over_left if distance > 0 else 1.0)

        def beyond(name: str) -> float:
            return recipe.get(name) - default.get(name)

        others = [slope * beyond(name) for name, slope in self.effects]
        others += [slope * beyond(a) * beyond(b) for a, b, slope in self.interactions]
        others += [nats for name, choice, nats in self.choices if recipe.flat().get(name) == choice]
        return self.floor_nats + steepness * distance**2 + math.fsum(others)

    def result(self, recipe: Recipe) -> RunResult:
        """A pure function of the recipe."""
        expected = self.expected_nats(recipe)
        diverged_at = None if expected is not None else recipe.num_updates // 3 + 1
        num_updates = diverged_at or recipe.num_updates
        num_tokens = num_updates * recipe.update_tokens
        identity = canonical_json(recipe.identity())
        final = None if expected is None else self._measure(expected, recipe, identity, "validation")
        return RunResult(
            fingerprint=fingerprint(recipe, _DATA_DIGEST),
            recipe=recipe.flat(),
            status="completed" if final else "diverged",
            failure=None if final else Failure(kind="diverged", update=diverged_at, message="loss is not finite"),
            final=final,
            test=None if expected is None else self._measure(expected, recipe, identity, "test"),
            evaluations=() if final is None else _evaluations(recipe, final),
            curve=_curve(recipe, final.loss if final else None, num_updates),
            num_updates=num_updates,
            num_tokens=num_tokens,
            num_flops=cost(recipe).flops_per_token * num_tokens,
            train_seconds=num_tokens / TOKENS_PER_SECOND,
            provenance=Provenance(
                code_digest=_DATA_DIGEST,
                torch="none",
                device="none",
                threads=1,
                lanes=1,
                data_digest=_DATA_DIGEST,
                evaluation_digest=_DATA_DIGEST,
            ),
        )

    def _measure(self, expected: float, recipe: Recipe, identity: str, which: str) -> Metrics:
        shared = _normal(which, str(recipe.seed))
        own = _normal(which, identity)
        noise = math.sqrt(self.rho) * shared + math.sqrt(1 - self.rho) * own
        return _metrics(expected + self.noise_nats * noise, recipe.evaluate.tokens)

    def _pretend_to_train(self, recipes: Sequence[Recipe]) -> Iterator[Progress]:
        began = time.monotonic()
        names = tuple(fingerprint(recipe, _DATA_DIGEST) for recipe in recipes)
        num_updates = max(recipe.num_updates for recipe in recipes)
        while (passed := time.monotonic() - began) < self.seconds_per_group:
            update = int(num_updates * passed / self.seconds_per_group)
            yield Progress(fingerprints=names, update=update, num_updates=num_updates)
            time.sleep(min(PROGRESS_SECONDS, self.seconds_per_group - passed))


def _normal(*key: str) -> float:
    """A standard normal number that belongs to the key."""
    uniform = (int(digest("blueberry/synthetic/noise", *key), 16) + 0.5) / 2**64
    return NormalDist().inv_cdf(uniform)


def _metrics(loss: float, num_tokens: int) -> Metrics:
    bits_per_byte = loss / math.log(2) / BYTES_PER_TOKEN
    return Metrics(loss=loss, bits_per_byte=bits_per_byte, accuracy=math.exp(-loss / 2), num_tokens=num_tokens)


def _curve(recipe: Recipe, final: float | None, num_updates: int) -> Curve:
    """Falls from guessing uniformly to the final loss, or rises from it until it is not finite."""
    start = math.log(recipe.data.vocabulary_tokens)
    rates = tuple(recipe.planned_rates()[:num_updates])
    if final is not None:
        losses = tuple(_fallen(start, final, update / recipe.num_updates) for update in range(num_updates))
    else:
        losses = (*(start * (1 + update) for update in range(num_updates - 1)), None)
    return Curve(train_loss=losses, gradient_norm=(1.0,) * (num_updates - 1) + losses[-1:], learning_rate=rates)


def _evaluations(recipe: Recipe, final: Metrics) -> tuple[Evaluation, ...]:
    start, every, last = math.log(recipe.data.vocabulary_tokens), recipe.evaluate.every_updates, recipe.num_updates
    updates = [*range(every, last, every), last]
    tokens = [update * recipe.update_tokens for update in updates]
    return tuple(
        Evaluation(
            update=update,
            tokens=consumed,
            seconds=consumed / TOKENS_PER_SECOND,
            validation=final
            if update == last
            else _metrics(_fallen(start, final.loss, update / last), recipe.evaluate.tokens),
        )
        for update, consumed in zip(updates, tokens, strict=True)
    )


def _fallen(start: float, final: float, fraction: float) -> float:
    """Loss at a fraction of the run: exponentially near to the final one at its end."""
    return final + (start - final) * math.exp(-6 * fraction)
