"""Planted studies of every kind: the kind, what the study file says otherwise, and the truth of their synthetic runs."""

from typing import Any, NamedTuple

RATE = "optimizer.muon.learning_rate"
DECAY = "optimizer.adamw.weight_decay"
SHORT = {"train.updates": 120}
"""So long that a warmup is one. Set wherever a study does not vary the length itself."""
FEW = {RATE: {"log": [0.01, 0.16], "points": 5}}
RACE = {"seeds": {"search": 3, "confirm": 3, "max": 8}, "strategy": {"method": "race"}}
UNCONFIRMED = {"seeds": {"search": 3, "confirm": 0}}
FRACTION = {"combine": {"mode": "fraction"}, "seeds": {"search": 3, "confirm": 3}}
PAIRS = {"combine": {"mode": "pairs"}, "seeds": {"search": 5, "confirm": 5}}
KINDS = {
    "arms": {"linear": {"schedule.kind": "linear"}, "warmup_stable_decay": {"schedule.kind": "warmup-stable-decay"}}
}
LINEAR = {"optimum": 0.04, "choices": (("schedule.kind", "linear", -0.05),)}
DECAYS = {"effects": ((DECAY, -0.5),)}
LENGTHS = {"across": {"train.updates": [120, 240, 480]}}
WORDS = {"model.feed_forward.kind": ["moe", "swiglu"]}
TWO_LENGTHS = {"set": {}, "across": {"train.updates": [240, 120]}}
"""Not in order of size: a study file may say them so."""
FEW_SEEDS = {"seeds": {"search": 3, "confirm": 3}}
PROPOSED = {"vary": {RATE: {"log": [0.003, 0.3]}}, "strategy": {"method": "optuna", "trials": 6, "batch": 2}}


GRID = {"strategy": {"method": "grid"}}
NOISY = {"optimum": 0.04, "noise_nats": 0.05}
CLIFF = {"optimum": 0.05, "diverges_above": 0.07}
EDGE = {"optimum": 0.5, "diverges_above": None}


class Planted(NamedTuple):
    kind: str
    """Of `blueberry new`."""
    changes: dict[str, Any]
    """Sections of the study file."""
    truth: dict[str, Any]
    """Arguments of Synthetic."""
    is_sound: bool = True
    """Nothing about it blocks a claim."""
    needs: str = ""
    """An extra."""


STUDIES: dict[str, Planted] = {
    "sweep": Planted("sweep", {"vary": FEW, **GRID}, {}),
    "sweep-unconfirmed": Planted("sweep", {"vary": FEW, **UNCONFIRMED, **GRID}, {"noise_nats": 0.02}),
    "sweep-diverges": Planted("sweep", {"vary": FEW, **GRID}, {"diverges_above": 0.1}),
    "sweep-all-diverge": Planted("sweep", {"vary": FEW, **GRID}, {"diverges_above": 0.001}, is_sound=False),
    "sweep-edge": Planted("sweep", {"vary": FEW, **GRID}, EDGE, is_sound=False),
    "sweep-ties": Planted(
        "sweep", {"vary": FEW, **GRID}, {"curvature_nats": 0.0002, "noise_nats": 0.001}, is_sound=False
    ),
    "sweep-one-seed": Planted("sweep", {"vary": FEW, "seeds": {"search": 1, "confirm": 0}, **GRID}, {}, is_sound=False),
    "race": Planted("sweep", {"vary": FEW, **RACE}, {}),
    "race-to-maximum": Planted("sweep", {"vary": FEW, **RACE}, {"noise_nats": 0.02}),
    "optuna": Planted("sweep", PROPOSED, {"optimum": 0.5, "diverges_above": None}, is_sound=False, needs="optuna"),
    "grid": Planted(
        "sweep", {"vary": {RATE: [0.02, 0.04, 0.08], DECAY: [0.0, 0.1, 0.2]}, **GRID}, DECAYS, is_sound=False
    ),
    "compare": Planted("compare", {}, DECAYS),
    "compare-nothing-shown": Planted("compare", {}, {"noise_nats": 0.1}),
    "ablation-pairs": Planted("ablation", PAIRS, DECAYS),
    "ablation-nothing-shown": Planted("ablation", PAIRS, {"noise_nats": 0.1}),
    "ablation-fraction": Planted("ablation", FRACTION, DECAYS),
    "schedule": Planted("schedule", {**KINDS, "tune": FEW, **GRID}, LINEAR),
    "schedule-nothing-shown": Planted("schedule", {**KINDS, "tune": FEW, **GRID}, NOISY),
    "search": Planted("search", {"tune": FEW, **GRID}, {"optimum": 0.04}),
    "horizon": Planted(
        "horizon", {"vary": FEW, **LENGTHS, **GRID}, {"optimum": 0.04, "moves": (("train.updates", -0.2),)}
    ),
    "horizon-left-open": Planted("horizon", {"vary": FEW, **LENGTHS, **GRID}, {"optimum": 0.028, "noise_nats": 0.012}),
    "search-edge": Planted("search", {"tune": FEW, **GRID}, EDGE, is_sound=False),
    "tune-words": Planted("schedule", {**KINDS, "tune": WORDS, **FEW_SEEDS, **GRID}, LINEAR),
    "across-arms": Planted("compare", {**TWO_LENGTHS, **FEW_SEEDS}, DECAYS),
    "across-words": Planted("sweep", {"vary": WORDS, **TWO_LENGTHS, **FEW_SEEDS, **GRID}, LINEAR),
    "scaling": Planted("scaling", {"vary": FEW, **GRID}, {"optimum": 0.04}),
    "data": Planted("data", {}, {"noise_nats": 0.02}, is_sound=False),
    "locate": Planted("sweep", {}, {}),
    "locate-cliff": Planted("sweep", {}, CLIFF),
    "locate-budget": Planted("sweep", {"strategy": {"method": "locate", "runs": 13}}, NOISY),
    "locate-tune": Planted("search", {}, {"optimum": 0.04}),
    "locate-across": Planted("horizon", LENGTHS, {"optimum": 0.04, "moves": (("train.updates", -0.2),)}),
}
