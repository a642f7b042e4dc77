"""A recipe: everything that decides a run's numbers, frozen and complete; and the names that are made from it.

Two runs are the same when, and only when, their fingerprints are. Everything that training draws on but the rate
(weights, data order, dropout, bias correction, evaluations) is a function of the seed and the update. So two runs that
differ only in schedule and length are in the same state, bitwise, as long as their rates agree, and may share what was
trained until then.
"""

import hashlib
import re
from array import array
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import ValidationError, field_validator, model_validator

from blueberry.architecture import Model
from blueberry.errors import RecipeError, did_you_mean, is_table, one_line, sections_in
from blueberry.files import canonical_json, digest, is_missing, read_toml, read_toml_value, to_toml
from blueberry.schedules import CosineSchedule, PlateauSchedule, Schedule, check_length, multipliers
from blueberry.settings import Data, Evaluate, MuonAdamWOptimizer, Optimizer, Section, Train, peak_rates, setting

EITHER_OR = {"train.tokens": "train.updates", "schedule.warmup_updates": "schedule.warmup_fraction"}
"""Settings that say one thing in two units: giving either takes the other back."""

MOST_UPDATES = 10**7
LENGTHS = ("train.updates", "train.tokens")
"""Settings that say how long a run is; a recipe has one of them."""
SCRIPT = "script."
_SCRIPT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,79}")
Scalar = str | bool | int | float


class Recipe(Section):
    """Everything that decides a run's numbers. `Recipe()` is the nano mixture of experts."""

    model: Model = Model()
    data: Data = Data()
    optimizer: Optimizer = MuonAdamWOptimizer()
    schedule: Schedule = CosineSchedule()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    script: dict[str, Scalar] = setting(
        {},
        "settings of a program that is not the built-in trainer: any names; read by the command of a study's [trainer]",
    )
    seed: int = setting(0, "fixes initial weights, data order and random draws", per_lane=True, ge=0, lt=2**31)

    @field_validator("script")
    @classmethod
    def _script_names_are_words(cls, given: dict[str, Scalar]) -> dict[str, Scalar]:
        for name in given:
            if not is_script_setting(SCRIPT + name):
                raise ValueError(f"{name[:80]!r}: a name; it is made of letters, digits, _ and -; choose another")
        return given

    @model_validator(mode="after")
    def _schedule_fits(self) -> Self:
        if self.num_updates > MOST_UPDATES:
            raise ValueError(
                f"train.tokens: {self.train.tokens}; they are {self.num_updates} updates, and a run has at most "
                f"{MOST_UPDATES}; give fewer, or larger updates"
            )
        try:
            check_length(self.schedule, self.num_updates, self.evaluate.every_updates)
        except ValueError as broken:
            raise ValueError(f"schedule.{broken}") from None
        return self

    @model_validator(mode="after")
    def _rates_are_of_groups_it_has(self) -> Self:
        rates = self.optimizer.rates
        if rates.head != 1 and self.model.tied_head:
            raise ValueError(
                f"optimizer.rates.head: {rates.head}; the head is tied to the embedding; set optimizer.rates.embedding"
            )
        if rates.router != 1 and not self.model.feed_forward.kind.startswith("moe"):
            raise ValueError(
                f"optimizer.rates.router: {rates.router}; a model without experts has no router; leave it out"
            )
        return self

    @classmethod
    def load(cls, given: str | Path, overrides: Sequence[str] = (), *, folder: Path = Path()) -> "Recipe":
        """Read a recipe file (TOML), or one that comes with Blueberry, by its name; see `recipe_path`.

        `overrides` are words `key=value` that are part of it before it is checked, as if the file said them.
        Raises: RecipeError, one line, if it cannot be read, is not TOML or breaks a rule.
        """
        path = recipe_path(given, folder)
        nested = read_toml(path, RecipeError)
        if not overrides:
            return cls.parse(nested, place=str(path))
        changes = read_overrides(overrides)
        try:
            return cls.parse(_changed(nested, changes, str(path)), place=str(path))
        except RecipeError as error:
            try:
                cls.parse(nested, place=str(path))
            except RecipeError as alone:
                if str(alone) == str(error):
                    raise
            raise RecipeError(_blamed_on(overrides, str(error).removeprefix(f"{path} "))) from None

    @classmethod
    def parse(cls, given: dict[str, Any], *, place: str = "recipe") -> "Recipe":
        """Check nested settings. Raises: RecipeError naming `place` and the setting."""
        try:
            return cls.model_validate(_with_default_kinds(cls, given))
        except ValidationError as error:
            raise RecipeError(one_line(error, place, cls)) from None

    @classmethod
    def of(cls, flat: Mapping[str, Any], *, place: str = "recipe") -> "Recipe":
        """The recipe whose `flat` this is. Raises: RecipeError, also for settings that are none of ours."""
        nested: dict[str, Any] = {}
        for name, value in flat.items():
            *sections, last = name.split(".")
            inner = nested
            for section in sections:
                inner = inner.setdefault(section, {})
                if not isinstance(inner, dict):
                    raise RecipeError(f'{place} "{name}": {section} is no section; leave one of them out')
            if value is not None:
                inner[last] = value
        return cls.parse(nested, place=place)

    def with_(self, overrides: dict[str, Any] | None = None, *, place: str = "recipe", **more: Any) -> "Recipe":
        """A copy with dotted settings changed, e.g. `with_(**{"optimizer.muon.learning_rate": 0.03})`.

        Changing a section's `kind` keeps the settings both kinds have; the rest take the new kind's defaults.
        Setting one of train.tokens and train.updates replaces the other; so do schedule.warmup_fraction and
        schedule.warmup_updates.
        Raises: RecipeError if a setting is unknown or its value breaks a rule.
        """
        return Recipe.parse(_changed(self.model_dump(), {**(overrides or {}), **more}, place), place=place)

    def get(self, name: str) -> Any:
        """The value of a dotted setting. Raises: RecipeError if this recipe has none of that name."""
        value: Any = self
        for part in name.split("."):
            if isinstance(value, dict) and part in value:
                value = value[part]
                continue
            if not isinstance(value, Section) or part not in type(value).model_fields:
                raise RecipeError(f'recipe "{name}": no such setting{did_you_mean(name, self.flat())}')
            value = getattr(value, part)
        return value

    def flat(self) -> dict[str, Any]:
        """Every setting by its dotted name, in declaration order."""
        return {name: value for name, value, _ in _leaves(self)}

    @property
    def num_updates(self) -> int:
        """Optimizer steps of the whole run."""
        if self.train.updates is not None:
            return self.train.updates
        assert self.train.tokens is not None
        return -(-self.train.tokens // self.update_tokens)

    @property
    def update_tokens(self) -> int:
        """Tokens trained on in one update."""
        return self.train.batch_sequences * self.model.context_tokens

    @property
    def micro_batch_sequences(self) -> int:
        """Sequences held in memory at once, per lane."""
        return self.train.micro_batch_sequences or self.train.batch_sequences

    def planned_rates(self) -> list[float]:
        """The matrices' learning rate at each update, if an adaptive schedule finds nothing to cut."""
        peak = peak_rates(self.optimizer)["matrices"]
        return [peak * height for height in multipliers(self.schedule, self.num_updates)]

    def identity(self, *, per_lane: bool = True) -> dict[str, Any]:
        """What decides the numbers: flat settings without the memory-only and local ones, the length in updates.

        With `per_lane=False` also without what may differ between lanes.
        """
        kept = {
            name: value
            for name, value, marks in _leaves(self)
            if not marks.get("memory_only")
            and not marks.get("local")
            and (per_lane or not marks.get("per_lane"))
            and not (marks.get("later") and not value)
        }
        del kept["train.tokens"]
        if not per_lane:
            del kept["schedule.kind"]  # a schedule is a multiplier per lane
        return {**kept, "train.updates": self.num_updates}

    def to_toml(self) -> str:
        """The resolved recipe as a file that loads back to it."""
        return to_toml(self.model_dump(exclude_none=True))


SHIPPED = Path(__file__).parent / "recipes"
"""The recipes that come with Blueberry, each a file NAME.toml."""


def recipe_path(given: str | Path, folder: Path = Path()) -> Path:
    """The file that is meant by a path, relative to `folder`, or by the name of a recipe that comes with Blueberry.

    Raises: RecipeError if there is neither.
    """
    path, shipped = folder / given, sorted(found.stem for found in SHIPPED.glob("*.toml"))
    if not is_missing(path):
        return path
    if str(given) in shipped:
        return SHIPPED / f"{given}.toml"
    raise RecipeError(f"{path}: no such file, and no recipe of that name{did_you_mean(str(given), shipped)}")


def read_overrides(words: Sequence[str]) -> dict[str, Any]:
    """`key=value` words as dotted settings; a value is read as TOML, and as text if it is none.

    Raises: RecipeError for a word without "=".
    """
    settings: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise RecipeError(f"{word!r}: not a setting; overrides are written key=value; e.g. train.updates=100")
        settings[name] = read_toml_value(value)
    return settings


def _blamed_on(words: Sequence[str], complaint: str) -> str:
    """A complaint `"setting": what; ...` about what these overrides made of a recipe, with its word for its place."""
    _, name, rest = complaint.split('"', 2)
    own = [word for word in words if word.partition("=")[0] == name]
    return f"{own[0]}{rest}" if own else f"{' '.join(words)}: {complaint}"


def is_script_setting(name: str) -> bool:
    """Whether a dotted name is one of those that a recipe holds for a program that is not ours."""
    return name.startswith(SCRIPT) and _SCRIPT_NAME.fullmatch(name.removeprefix(SCRIPT)) is not None


def setting_names() -> set[str]:
    """Every dotted setting that some recipe can have, over all kinds."""
    return set(_names_of(Recipe))


def _names_of(section: type[Section], prefix: str = "") -> list[str]:
    names: list[str] = []
    for name, field in section.model_fields.items():
        kinds = sections_in(field.annotation)
        inside = f"{prefix}{name}.NAME." if is_table(field.annotation) else f"{prefix}{name}."
        for kind in kinds:
            names += _names_of(kind, inside)
        if not kinds:
            names.append(f"{prefix}{name}.NAME" if is_table(field.annotation) else prefix + name)
    return names


def _with_default_kinds(section: type[Section], given: Any) -> Any:
    """Settings given for a section without saying its kind belong to the default kind."""
    if not isinstance(given, dict):
        return given
    filled = dict(given)
    for name, kinds in _sections(section).items():
        if isinstance(filled.get(name), dict):
            if len(kinds) > 1:
                filled[name] = {"kind": section.model_fields[name].default.kind, **filled[name]}
            chosen = [k for k in kinds if len(kinds) == 1 or k.model_fields["kind"].default == filled[name]["kind"]]
            if chosen:
                filled[name] = _with_default_kinds(chosen[0], filled[name])
    return filled


@lru_cache(maxsize=1000)  # every recipe that is made asks it of every section
def _sections(section: type[Section]) -> dict[str, list[type[Section]]]:
    """Of each field that holds a section, those that it can hold: several where there are kinds."""
    held = {name: sections_in(field.annotation) for name, field in section.model_fields.items()}
    return {name: kinds for name, kinds in held.items() if kinds}


def _changed(nested: dict[str, Any], changes: Mapping[str, Any], place: str) -> dict[str, Any]:
    """A copy of nested settings with dotted ones changed. Raises: RecipeError if one of them does not exist."""
    for one, other in EITHER_OR.items():
        if changes.get(one) is not None and changes.get(other) is not None:
            raise RecipeError(
                f'{place} "{one}": given beside {other}; they say the same in two units; give one of them'
            )
    changed = _copied(_with_default_kinds(Recipe, nested))
    for name in sorted(changes, key=lambda name: not name.endswith((".kind", ".corpus", ".tokenizer"))):
        _replace(changed, name, changes[name], place)
    return changed


def _copied(nested: dict[str, Any]) -> dict[str, Any]:
    """Tables within tables, of whatever values: those are replaced, never changed."""
    return {name: _copied(held) if isinstance(held, dict) else held for name, held in nested.items()}


def _replace(nested: dict[str, Any], name: str, value: Any, place: str) -> None:
    """Put one dotted override into the nested settings, in place."""
    *path, last = name.split(".")
    if is_script_setting(name):
        nested.setdefault("script", {})[last] = value
        return
    table = nested
    candidates: list[type[Section]] = [Recipe]
    names_follow = False
    for part in path:
        if names_follow:
            table, names_follow = table.setdefault(part, {}), False
            if not isinstance(table, dict):
                raise RecipeError(f'{place} "{name}": given beside {part} = {table!r}; {part} is a section')
            continue
        candidates = _require(part, candidates, table, name, place)
        fields = [section.model_fields[part] for section in candidates]
        kinds = _sections(candidates[0]).get(part, [])
        candidates = [s for section in candidates for s in _sections(section).get(part, [])]
        if not candidates:
            raise RecipeError(f'{place} "{name}": no such setting{did_you_mean(name, setting_names())}')
        names_follow = any(is_table(field.annotation) for field in fields)
        if table.get(part) is None:
            table[part] = {"kind": fields[0].default.kind} if len(kinds) > 1 else {}
        if not isinstance(table := table[part], dict):
            raise RecipeError(
                f'{place} "{name}": given beside {part} = {table!r}; {part} is a section; give its settings'
            )
    if not names_follow:
        _require(last, candidates, table, name, place)
    if last == "kind":
        chosen = [c for c in candidates if c.model_fields["kind"].default == value]
        if chosen:
            _keep_what_both_have(table, chosen[0])
    for one, other in EITHER_OR.items():
        if name in (one, other) and value is not None:
            taken_back = other if name == one else one
            table[taken_back.rpartition(".")[2]] = None
    if last in table and value != table[last]:
        for gone in _OWN_SETTINGS.get(last, ()):
            table.pop(gone, None)
    table[last] = value


def _require(
    part: str, candidates: Sequence[type[Section]], table: dict[str, Any], name: str, place: str
) -> list[type[Section]]:
    """The sections that a table can be and that have this setting. Raises: RecipeError if there is none."""
    having = [section for section in candidates if part in section.model_fields]
    if not having:
        raise RecipeError(f'{place} "{name}": no such setting{did_you_mean(name, setting_names())}')
    if part == "kind" or "kind" not in having[0].model_fields:
        return having
    chosen = [section for section in having if section.model_fields["kind"].default == table.get("kind")]
    if not chosen:
        raise RecipeError(
            f'{place} "{name}": given beside kind = {table.get("kind")!r}; that kind has no {part}; '
            "change the kind or leave it out"
        )
    return chosen


_OWN_SETTINGS = {
    "corpus": ("files", "hugging_face", "mixture"),
    "tokenizer": ("vocabulary_tokens", "tokenizer_path", "tokenizer_repository", "tokenizer_revision", "end_token"),
}
"""What another choice leaves behind, as another kind does."""


def _keep_what_both_have(table: dict[str, Any], kind: type[Section]) -> None:
    """Drop what a kind has no setting for, in place, in its sections too."""
    for name in list(table):
        if name not in kind.model_fields:
            del table[name]
            continue
        inside = _sections(kind).get(name, [])
        if len(inside) == 1 and isinstance(table[name], dict):
            _keep_what_both_have(table[name], inside[0])


def _leaves(section: Section, prefix: str = "") -> list[tuple[str, Any, dict[str, Any]]]:
    """Each setting with its dotted name, value and marks. A section that is left out has none."""
    leaves: list[tuple[str, Any, dict[str, Any]]] = []
    values = section.__dict__
    for name, dotted, holds, marks in _fields(type(section), prefix):
        value = values[name]
        if holds == "value":
            leaves.append((dotted, value, marks))
        elif holds == "table":
            leaves += [(f"{dotted}.{key}", one, marks) for key, one in value.items()]
        elif isinstance(value, dict):
            for key, one in value.items():
                leaves += _leaves(one, f"{dotted}.{key}.")
        elif value is not None:
            leaves += _leaves(value, f"{dotted}.")
    return leaves


Holds = Literal["sections", "table", "value"]
"""Of a field: sections, perhaps under names of the user's; plain values under such names; one plain value."""


@lru_cache(maxsize=10_000)  # naming the runs of a study asks this of every recipe
def _fields(section: type[Section], prefix: str) -> tuple[tuple[str, str, Holds, dict[str, Any]], ...]:
    """Of each field its name, the same dotted, what it holds, and its marks."""
    found: list[tuple[str, str, Holds, dict[str, Any]]] = []
    for name, field in section.model_fields.items():
        extra = field.json_schema_extra
        inside = "sections" if name in _sections(section) else "table" if is_table(field.annotation) else "value"
        found.append((name, f"{prefix}{name}", inside, extra if isinstance(extra, dict) else {}))
    return tuple(found)


_HOLE = "\0seed\0"
"""Where a seed goes. No name or path has a zero byte."""


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


SHARED_FOLDER = "shared"
"""Beside the checkpoints of runs: a folder for each state that is wanted, by its name."""
BYTES_PER_UPDATE = 8


def trunk_key(recipe: Recipe, data_digest: str) -> str:
    """Runs of one seed and one trunk key differ at most in schedule and length.

    The micro-batch is in it, though it is no part of a run's identity: it may move the rounding.
    """
    kept = {
        name: value
        for name, value in recipe.identity().items()
        if name not in ("seed", "train.updates") and not name.startswith("schedule.")
    }
    kept["train.micro_batch_sequences"] = recipe.micro_batch_sequences
    return digest("blueberry/trunk/1", canonical_json(kept), data_digest)


def course(recipe: Recipe) -> bytes:
    """What decides each update's rate, 8 bytes an update: the schedule's multiplier.

    Where evaluations may have cut the rate by then, a digest of the multiplier and of the rule that cuts it.
    """
    schedule, num_updates = recipe.schedule, recipe.num_updates
    heights = array("d", multipliers(schedule, num_updates))
    if not isinstance(schedule, PlateauSchedule):
        return heights.tobytes()
    # The first evaluation only sets a mark: no cut comes sooner than `patience` evaluations after it.
    fixed = recipe.evaluate.every_updates * (1 + schedule.patience_evaluations)
    rule = schedule.model_dump_json().encode()
    adapting = (hashlib.sha256(rule + heights[u : u + 1].tobytes()).digest() for u in range(fixed, num_updates))
    return heights[:fixed].tobytes() + b"".join(one[:BYTES_PER_UPDATE] for one in adapting)


def common_updates(a: bytes, b: bytes) -> int:
    """After how many updates two courses still lead to the same state.

    At most one fewer than the shorter has: its last update is evaluated, whatever the other does there.
    """
    low, high = 0, min(len(a), len(b)) // BYTES_PER_UPDATE - 1
    while low < high:
        middle = (low + high + 1) // 2
        end = middle * BYTES_PER_UPDATE
        if a[:end] == b[:end]:
            low = middle
        else:
            high = middle - 1
    return low


def state_name(trunk: str, seed: int, course: bytes, update: int) -> str:
    """The name by content of the state after `update` updates: one name, one state, whichever run passes there."""
    return f"{update:06d}.{digest('blueberry/state/1', trunk, str(seed), course[: update * BYTES_PER_UPDATE])}"


def update_of(state: str) -> int | None:
    """The update in a state's name; None if it is no such name."""
    number = state.partition(".")[0]
    return int(number) if number.isdecimal() else None
