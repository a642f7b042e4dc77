"""The page in a real browser: every figure is drawn, without a network."""

import shutil
import subprocess
from pathlib import Path

import planted
import pytest

from blueberry.report import write

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
@pytest.mark.parametrize(("name", "num_figures"), [("hostile", 5), ("all_diverged", 5)])
def test_every_figure_is_drawn(name: str, num_figures: int, tmp_path: Path) -> None:
    study = getattr(planted, name)()
    page = write(study.judgement, study.runs, tmp_path / "report")
    assert CHROMIUM is not None
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=8000", "--dump-dom"]
    dom = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=True).stdout
    assert f'data-drawn="{num_figures}"' in dom
    assert dom.count('class="marks"') == num_figures
