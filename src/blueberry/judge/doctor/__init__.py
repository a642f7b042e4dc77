"""The doctor: what would make a claim untrue, looked for in designs, runs, imported rows and written reports."""

from blueberry.judge.doctor.results import AUDITS, audit

__all__ = ["AUDITS", "audit"]
