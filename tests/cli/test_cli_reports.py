"""Where a report goes when nobody says."""

import pytest
from typer.testing import CliRunner

from blueberry.cli import app


@pytest.mark.parametrize(("file", "folder"), [("runs.csv", "runs"), ("...csv", "unnamed"), ("a.b.csv", "a.b")])
def test_a_file_of_any_name_reports_into_a_folder_in_reports(tmp_path, monkeypatch, file, folder):
    monkeypatch.chdir(tmp_path)
    (tmp_path / file).write_text(
        "arm,seed,val_loss\n" + "".join(f"{a},{s},{3 + s / 9}\n" for a in "ab" for s in range(3))
    )
    (tmp_path / "index.html").write_text("mine")
    monkeypatch.setattr("blueberry.analysis.Analysed.report", lambda self, folder: folder)
    said = CliRunner().invoke(app, ["analyse", file, "--vary", "arm", "--json"], standalone_mode=False)
    assert f'"report": "reports/{folder}"' in said.stdout
