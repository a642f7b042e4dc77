"""The script of the page: safe inside HTML, put together once, and never in need of its cache."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import vl_convert

from blueberry.report.charts import LIGHT, dashes, vega_script


@pytest.fixture
def bundles(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Stands in for the 2 s of putting it together; one entry each time."""
    made: list[str] = []

    def bundle() -> str:
        made.append("x")
        return 'a = "</script><!-- µ";'

    monkeypatch.setattr(vl_convert, "javascript_bundle", bundle)
    vega_script.cache_clear()
    yield made
    vega_script.cache_clear()


def test_it_is_kept_for_the_next_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bundles: list[str]) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = vega_script()
    vega_script.cache_clear()
    assert vega_script() == first == 'a = "<\\/script><\\!-- µ";'
    assert len(bundles) == 1
    assert len(list(tmp_path.rglob("*"))) == 2  # the folder and the script, nothing half written


def test_it_needs_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bundles: list[str]) -> None:
    taken = tmp_path / "taken"
    taken.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(taken))
    assert vega_script().startswith("a = ")
    assert len(bundles) == 1


def test_a_kept_script_that_is_not_what_was_written_is_put_together_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bundles: list[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    whole = vega_script()
    (kept,) = tmp_path.rglob("*.js")
    written = kept.read_bytes()
    for content in (b"", written[:-3], b"alert(1)", written + b"alert(1)", b"\xff\xfe"):
        kept.write_bytes(content)
        vega_script.cache_clear()
        assert vega_script() == whole
        assert kept.read_bytes() == written
    assert len(bundles) == 6


def test_lines_that_would_share_a_colour_differ_in_dashes():
    names = [f"arm {number}" for number in range(16)]
    assert dashes(names[:8], LIGHT) is None
    found = dashes(names, LIGHT)
    assert found is not None
    patterns = found.to_dict()["scale"]["range"]
    looks = [(LIGHT.category(index), tuple(pattern)) for index, pattern in enumerate(patterns)]
    assert len(set(looks)) == len(names)
