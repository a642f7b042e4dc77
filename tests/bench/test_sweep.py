"""The benchmark of searches: replays add up, and the page is what was counted."""

import json
from pathlib import Path

from bench.sweep import ablations
from bench.sweep.__main__ import RESULTS
from bench.sweep.page import BUDGET, GRID, page
from bench.sweep.replays import Row, go_on
from bench.sweep.surfaces import surfaces
from bench.sweep.tables import read_changes, read_rates

REPOSITORY = Path(__file__).parent.parent.parent
SURFACES = {surface.name: surface for surface in surfaces()}
PICO = "pico mixture of experts, 80 updates"


def counted(method: str, *untils: int) -> Row:
    surface = SURFACES[PICO]
    row = Row(PICO, method, surface.is_valley, surface.sd_nats)
    for until in untils:
        go_on(row, surface, until)
    return row


def test_replays_go_on_where_they_were() -> None:
    whole, parted = counted(GRID, 6), counted(GRID, 2, 6)
    whole.seconds = parted.seconds = 0.0
    assert whole == parted
    assert (whole.replays, whole.runs) == (6, 130.0)
    assert abs(Row(**json.loads(json.dumps(whole.to_dict()))).mean_regret - whole.mean_regret) < 1e-9


def test_a_search_spends_its_budget_and_its_claims_are_counted() -> None:
    row = counted(BUDGET, 3)
    assert row.costs == {"13.0": 3}
    assert sum(row.ended.values()) == 3
    row = counted("locate", 2)
    assert row.claims == row.ended.get("located", 0)


def test_a_fraction_costs_a_sixth_and_finds_the_best_of_our_own_combinations() -> None:
    measured, mixed = ablations.truths()
    one = ablations.replay(measured, "fraction, 3 seeds", 5)
    assert one["runs"] <= 51 + 48 * one["folds"], "a sixth of 320 is 53"
    assert one["regret"] == 0.0
    assert ablations.replay(mixed, "fraction, 3 seeds", 3)["folds"] == 1.0


def test_the_tables_are_whole() -> None:
    assert read_rates()[1].shape == (26, 10, 3)
    signs, losses = read_changes()
    assert (signs.shape, losses.shape) == ((64, 6), (64, 5))


def test_the_page_is_what_was_counted_and_the_readme_says_the_same() -> None:
    results = json.loads(RESULTS.read_text())
    rows = [Row(**row) for row in results["rows"]]
    said = page(rows, results["ablations"], results["schedules"])
    assert said == (REPOSITORY / "docs" / "efficiency.md").read_text()
    by = {(row.surface, row.method): row.mean_regret for row in rows if row.is_valley}
    valleys = {surface for surface, _ in by}
    better = sum(by[surface, BUDGET] <= by[surface, GRID] for surface in valleys)
    readme = " ".join((REPOSITORY / "README.md").read_text().split())
    assert f"on {better} of {len(valleys)} valleys" in readme
