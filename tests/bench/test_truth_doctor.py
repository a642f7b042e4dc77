import numpy as np
import pytest

from bench.truth.cells import CELLS
from bench.truth.doctoring import DEFECTS, clean_rows, findings

pytest.importorskip("blueberry.analysis", reason="tables are read by another part")


def test_clean_tables_are_quiet():
    rng = np.random.default_rng(0)
    assert sum(bool(findings(clean_rows(rng))) for _ in range(15)) <= 1


@pytest.mark.parametrize("name", DEFECTS)
def test_planted_defects_are_found(name):
    plant, audit = DEFECTS[name]
    rng = np.random.default_rng(1)
    for _ in range(2):
        assert (audit, "block") in findings(plant(rng))


def test_every_defect_has_its_cell():
    assert {cell.name for cell in CELLS if cell.study == "defect"} == {f"doctor/{name}" for name in DEFECTS}
