"""The runs a report shows: each a result with the place it has in its study."""

from dataclasses import dataclass
from typing import Literal

from blueberry.records import RunResult


@dataclass(frozen=True)
class LabelledRun:
    """One run of a study, under the name of its arm."""

    arm: str
    seed: int
    stage: Literal["search", "compare", "confirm"]
    result: RunResult
    part: str = ""
    """Of a study made of parts."""

    @property
    def diverged(self) -> bool:
        return self.result.status == "diverged"
