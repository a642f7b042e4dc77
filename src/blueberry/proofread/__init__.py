"""Written reports, proofread: do their numbers follow from each other, and their claims from their runs?"""

from blueberry.proofread.document import Document
from blueberry.proofread.examination import examine

__all__ = ["Document", "examine"]
