"""One run on its own: its result as JSON, and its curves as a picture."""

from pathlib import Path
from typing import Any

from blueberry.errors import ReportError
from blueberry.files import refused_as
from blueberry.records import RunResult
from blueberry.report.theme import LIGHT


def write_run(result: RunResult, folder: Path) -> Path:
    """Write `result.json` and `curves.png` into a folder, and return it.

    Raises: ReportError if the folder cannot be written.
    """
    with refused_as(ReportError, folder, "cannot be written", "a run's files need a place; choose one with --out"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "result.json").write_text(result.model_dump_json(indent=2) + "\n", encoding="utf-8")
        if result.curve.train_loss:
            (folder / "curves.png").write_bytes(_picture(result))
    return folder


def _picture(result: RunResult) -> bytes:
    """Loss above, learning rate below, over the same updates."""
    import altair as alt

    from blueberry.report.figures import finished
    from blueberry.report.vega import layered, png, stacked

    losses = [
        {"update": update, "loss": loss, "set": "training"}
        for update, loss in enumerate(result.curve.train_loss, 1)
        if loss is not None
    ] + [{"update": e.update, "loss": e.validation.loss, "set": "validation"} for e in result.evaluations]
    rates = [{"update": update, "rate": rate} for update, rate in enumerate(result.curve.learning_rate, 1)]
    x: Any = alt.X("update:Q", title="updates", scale=alt.Scale(domain=[0, len(rates)], nice=False))
    y: Any = alt.Y("loss:Q", title="loss (nats per token)", scale=alt.Scale(zero=False))
    colour: Any = alt.Color(
        "set:N",
        scale=alt.Scale(domain=["training", "validation"], range=[LIGHT.other, LIGHT.accent]),
        legend=alt.Legend(title=None, orient="top"),
    )
    base = alt.Chart(alt.Data(values=losses)).encode(x=x, y=y, color=colour)
    training = base.transform_filter("datum.set === 'training'").mark_line(strokeWidth=1)
    validation = base.transform_filter("datum.set === 'validation'")
    evaluated = (validation.mark_line(strokeWidth=2), validation.mark_point(filled=True, size=40))
    rate = (
        alt.Chart(alt.Data(values=rates))
        .mark_line(color=LIGHT.fresh, strokeWidth=1.5)
        .encode(x=x, y=alt.Y("rate:Q", title="learning rate", axis=alt.Axis(tickCount=3, format="~g")))
    )
    views = [layered([training, *evaluated], width=620, height=320), layered([rate], width=620, height=90)]
    said = f"seed {result.recipe['seed']}, {result.num_tokens:,} tokens; {result.status}"
    return png(finished(stacked(views, spacing=14), f"Run {result.fingerprint}", said))
