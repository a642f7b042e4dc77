"""From runs to what they support: `weigh(Evidence)` for numbers from anywhere, `judge(study, ...)` for our own."""

from blueberry.judge.evidence import ArmRuns, Evidence
from blueberry.judge.from_study import Text, gather
from blueberry.judge.parts import judge
from blueberry.judge.weigh import weigh

__all__ = ["ArmRuns", "Evidence", "Text", "gather", "judge", "weigh"]
