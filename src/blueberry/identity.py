"""Names made from content: two things are the same when, and only when, their digests are."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from blueberry.recipe import Recipe

DIGEST_CHARACTERS = 16
_HOLE = "\0seed\0"
"""Where a seed goes. No name or path has a zero byte."""


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces and shortest round-trip floats.

    Raises: ValueError on NaN or infinity, TypeError on what JSON cannot hold.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(*parts: str | bytes) -> str:
    """The first 16 hexadecimal characters of SHA-256 over the parts, each preceded by its length."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        sha.update(len(data).to_bytes(8, "little"))
        sha.update(data)
    return sha.hexdigest()[:DIGEST_CHARACTERS]


def fingerprint(recipe: Recipe, data_digest: str) -> str:
    """The name of the run that this recipe describes: a digest of everything that decides its numbers.

    `data_digest` names the corpus, its split and its tokenizer by content (or the command of a trainer
    that brings its own data). Paths, machine, worker count and memory-only settings do not enter.
    """
    return digest("blueberry/run/1", canonical_json(recipe.identity()), data_digest)


def fingerprints(recipe: Recipe, data_digest: str, seeds: Iterable[int]) -> tuple[str, ...]:
    """`fingerprint` of the recipe on each of these seeds. All its other settings are looked at once."""
    before, hole, after = canonical_json({**recipe.identity(), "seed": _HOLE}).partition(canonical_json(_HOLE))
    assert hole, "a seed is part of what decides the numbers"
    return tuple(digest("blueberry/run/1", f"{before}{seed}{after}", data_digest) for seed in seeds)


def shape_key(recipe: Recipe, data_digest: str) -> str:
    """Recipes with one shape key can train side by side, one lane each: they differ only per lane."""
    return digest("blueberry/shape/1", canonical_json(recipe.identity(per_lane=False)), data_digest)
