"""The doctor: what would make a claim untrue, looked for in designs, runs and imported rows."""

from blueberry.judge.doctor.results import AUDITS, audit
from blueberry.judge.doctor.rows import ROW_AUDITS

__all__ = ["AUDITS", "ROW_AUDITS", "audit"]
