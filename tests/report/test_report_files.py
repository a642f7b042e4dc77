"""The folder: which files there are, that each is whole, and that none is ever half written."""

import json
import struct
import zlib
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import planted
import pytest

from blueberry import report as reports
from blueberry.errors import ReportError
from blueberry.judge.judgement import SCHEMA
from blueberry.report import write


def picture(path: Path) -> tuple[int, int, int]:
    """Width, height and number of distinct byte values of a PNG."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    place, packed = 8, b""
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        if data[place + 4 : place + 8] == b"IDAT":
            packed += data[place + 8 : place + 8 + length]
        place += 12 + length
    return width, height, len(set(zlib.decompress(packed)))


def small() -> planted.Planted:
    return planted.two_arms()


def test_a_sweep_has_every_file(sweep_report: Path) -> None:
    found = {path.relative_to(sweep_report).as_posix() for path in sweep_report.rglob("*") if path.is_file()}
    rates = [
        "0.0010",
        "0.0020",
        "0.0040",
        "0.0079",
        "0.0158",
        "0.0316",
        "0.0631",
        "0.1259",
        "0.2512",
        "0.5012",
        "1.0000",
    ]
    assert found == {
        *("index.html", "report.md", "insights.json", "results.json", reports.MANIFEST),
        *("final_results.json", "comprehensive_insights.json"),
        *(f"figures/{n}.png" for n in ("loss_vs_learning_rate", "curves", "training_curves")),
        *("figures/combined_lr_analysis.png", "figures/detailed_lr_analysis.png"),
        *(f"figures/individual/lr_{rate}_loss_vs_steps.png" for rate in rates),
    }


def test_pictures_are_not_blank_and_twice_their_size(sweep_report: Path) -> None:
    different = {path.read_bytes(): path for path in sweep_report.rglob("*.png")}
    for path in different.values():
        width, height, values = picture(path)
        assert values > 60, path
        assert 1200 < width < 2600, path
        assert 700 < height < 2000, path
    width, height, _ = picture(sweep_report / "figures/loss_vs_learning_rate.png")
    assert 2 * 760 < width < 2 * 880
    assert 2 * 400 < height < 2 * 540


def test_the_pictures_that_markdown_links_exist(sweep_report: Path) -> None:
    links = [part.partition(")")[0] for part in (sweep_report / "report.md").read_text().split("](")[1:]]
    assert len(links) == 5
    assert all((sweep_report / link).is_file() for link in links)


def test_insights_are_the_judgement(sweep: planted.Planted, sweep_report: Path) -> None:
    insights = json.loads((sweep_report / "insights.json").read_text())
    assert insights == json.loads(json.dumps(sweep.judgement.to_dict()))
    assert insights["schema"] == SCHEMA


def test_results_hold_every_run(sweep: planted.Planted, sweep_report: Path) -> None:
    runs = json.loads((sweep_report / "results.json").read_text())["runs"]
    assert len(runs) == len(sweep.runs) == 38
    for said, run in zip(runs, sweep.runs, strict=True):
        assert (said["arm"], said["seed"], said["stage"]) == (run.arm, run.seed, run.stage)
        assert said["metrics"]["val_loss"] == run.result.metric("val_loss")
        assert said["curves"]["train_loss"] == list(run.result.curve.train_loss)
        assert len(said["curves"]["evaluations"]) == len(run.result.evaluations)
    diverged = [said for said in runs if said["status"] == "diverged"]
    assert len(diverged) == 4
    assert all(said["metrics"]["val_loss"] is None and said["failure"]["update"] for said in diverged)


def test_final_results_are_a_row_a_run(sweep: planted.Planted, sweep_report: Path) -> None:
    rows = json.loads((sweep_report / "final_results.json").read_text())
    assert len(rows) == 38
    first = rows[0]
    assert first["learning_rate"] == 0.001
    assert first["final_loss"] == sweep.judgement.arms[0].values[0]
    assert {"final_accuracy", "final_perplexity", "training_time", "status", "seed"} <= set(first)
    assert [row["stage"] for row in rows[-5:]] == ["confirm"] * 5


def test_recommendations_are_supported_or_say_why_not(sweep_report: Path) -> None:
    insights = json.loads((sweep_report / "comprehensive_insights.json").read_text())
    said = insights["recommendations"]
    assert said["production"]["learning_rate"] == 0.03162
    assert said["avoid"]["learning_rate_from"] == 0.5012
    for page in ("report.md", "index.html"):
        assert "evidence for conservative" in (sweep_report / page).read_text()
    assert len(insights["statistics"]) == 11
    study = planted.edge()
    from blueberry.report import comprehensive_insights
    from blueberry.report.charts import find_axis

    axis = find_axis(study.judgement)
    assert axis is not None
    withheld = comprehensive_insights(study.judgement, study.runs, axis)["recommendations"]
    for purpose in ("production", "conservative", "fast"):
        assert withheld[purpose] == {"supported": False, "because": "the best rate is at the end of the range"}
    assert withheld["avoid"]["supported"] is False


def test_a_comparison_has_its_picture_and_no_files_of_a_sweep(tmp_path: Path) -> None:
    page = write(small().judgement, small().runs, tmp_path / "a" / "b")
    assert page == tmp_path / "a" / "b" / "index.html"
    assert (page.parent / "figures/main_branch_comparison.png").is_file()
    assert not (page.parent / "final_results.json").exists()


def test_a_writer_that_is_stopped_leaves_the_earlier_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(small().judgement, small().runs, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(reports, "results_json", stop)
    with pytest.raises(KeyboardInterrupt):
        write(planted.hostile().judgement, planted.hostile().runs, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write a report of these files, without drawing any."""

    def write_these(folder: Path, *names: str) -> Path:
        monkeypatch.setattr(reports, "_files", lambda *_: [(name, name.encode()) for name in (*names, "index.html")])
        return write(small().judgement, (), folder)

    return write_these


def test_files_of_an_earlier_report_go_and_other_files_stay(tmp_path: Path, writes: Callable[..., Path]) -> None:
    mine = [tmp_path / name for name in ("notes.txt", "figures/my_comparison.png", "figures/loss_vs_time.png")]
    mine.append(tmp_path / "figures/individual/lr_0.0650_loss_vs_steps.png")
    for path in mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"mine")
    writes(tmp_path, "final_results.json", "figures/loss_vs_lr.png", "figures/curves.png", "report.md")
    (tmp_path / "figures/curves.png").write_bytes(b"mine now")
    writes(tmp_path, "report.md")
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    ours = {"report.md", "index.html", reports.MANIFEST}
    assert left == {*ours, "figures/curves.png", *(path.relative_to(tmp_path).as_posix() for path in mine)}


def test_a_report_replaces_nothing_but_what_a_report_left(tmp_path: Path, writes: Callable[..., Path]) -> None:
    """A table judged in its own folder, and a report with notes written into it."""
    (tmp_path / "results.json").write_text("mine")
    with pytest.raises(ReportError, match=r"results\.json: not as a report left it; .* --out"):
        writes(tmp_path, "report.md", "results.json")
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
    assert (tmp_path / "results.json").read_text() == "mine"
    (tmp_path / "results.json").unlink()
    writes(tmp_path, "report.md")
    (tmp_path / "report.md").write_text("with notes")
    with pytest.raises(ReportError, match=r"report\.md: not as"):
        writes(tmp_path, "report.md")
    assert (tmp_path / "report.md").read_text() == "with notes"
    (tmp_path / "report.md").unlink()
    (tmp_path / "elsewhere.md").write_text("report.md")
    (tmp_path / "report.md").symlink_to("elsewhere.md")
    with pytest.raises(ReportError, match=r"report\.md: not as"):
        writes(tmp_path, "report.md")


def test_after_a_kill_in_the_middle_the_next_report_knows_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def report(content: bytes, kill_after: int | None = None) -> None:
        moved, replace = [], Path.replace

        def counted(source: Path, target: Path) -> Path:
            if len(moved) == kill_after:
                raise KeyboardInterrupt
            moved.append(target)
            return replace(source, target)

        with monkeypatch.context() as context:
            context.setattr(Path, "replace", counted)
            reports.place(tmp_path, [("a.md", content), ("b.md", content), ("index.html", content)])

    report(b"first")
    for kill_after, content in enumerate((b"second", b"third", b"fourth", b"fifth")):
        with pytest.raises(KeyboardInterrupt):
            report(content, kill_after)
    report(b"last")
    assert {path.read_bytes() for path in tmp_path.glob("[!.]*")} == {b"last"}


def test_a_report_goes_through_no_link(tmp_path: Path, writes: Callable[..., Path]) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "curves.png").write_bytes(b"mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/figures").symlink_to(mine)
    with pytest.raises(ReportError, match="figures: a link"):
        writes(tmp_path / "out", "figures/curves.png", "figures/individual/a.png")
    assert [path.read_bytes() for path in mine.iterdir()] == [b"mine"]
    assert not (tmp_path / "out/index.html").exists()
    (tmp_path / "link").symlink_to(mine)
    assert writes(tmp_path / "link").is_file(), "the folder itself is where its user says"


def test_a_manifest_cannot_name_what_is_not_in_the_folder(tmp_path: Path, writes: Callable[..., Path]) -> None:
    out, outside = tmp_path / "out", tmp_path / "outside.png"
    writes(out, "report.md")
    outside.write_bytes(b"mine")
    (out / "linked").symlink_to(tmp_path)
    listed = json.loads((out / reports.MANIFEST).read_text())
    for name in ("../outside.png", str(outside), "linked/outside.png", "figures/../../outside.png", "x\0y", "linked"):
        listed["files"][name] = sha256(b"mine").hexdigest()
    (out / reports.MANIFEST).write_text(json.dumps(listed))
    writes(out)
    assert outside.exists()
    assert (out / "linked").is_symlink()
    assert not (out / "report.md").exists()
    for broken in ("", "[]", '{"schema": 1}', '{"schema": "blueberry/report-files/1"}', "{"):
        (out / reports.MANIFEST).write_text(broken)
        writes(out)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "taken"
    file.write_text("")
    with pytest.raises(ReportError, match="cannot be written") as caught:
        write(small().judgement, small().runs, file / "report")
    assert "\n" not in str(caught.value)
    assert "--out" in str(caught.value)
