"""Draws a Panel."""

import altair as alt

from blueberry.report.lr_curve_chart import rate_axis
from blueberry.report.panels import Panel
from blueberry.report.theme import Palette
from blueberry.report.vega import chart, layered


def draw_panel(panel: Panel, palette: Palette, *, width: int, height: int) -> alt.LayerChart:
    """One panel with its title."""
    axis = panel.axis
    x = rate_axis(axis, (axis.beyond(axis.values[0], -0.45), axis.beyond(axis.values[-1], 0.45)))
    scale = alt.Scale(type="log" if panel.log_y else "linear", zero=panel.from_zero, nice=False, padding=12)
    y = alt.Y("y:Q", title=panel.y_label, scale=scale, axis=alt.Axis(tickCount=5, format="~g"))
    strong = ("best", "unresolved")
    points = [
        {"x": p.x, "y": p.value, "colour": palette.accent if p.status in strong else palette.other}
        for p in panel.points
    ]
    layers: list[alt.Chart] = []
    if panel.joined:
        means = chart([{"x": x_, "y": mean} for x_, mean in panel.means])
        layers.append(means.mark_line(color=palette.accent, strokeOpacity=0.45, strokeWidth=1.5).encode(x=x, y=y))
    if panel.reference is not None:
        level, text = panel.reference
        base = chart([{"y": level, "text": text, "x": axis.values[0]}])
        layers.append(base.mark_rule(color=palette.fresh, strokeDash=[5, 4], strokeWidth=1.5).encode(y=y))
        label = base.mark_text(align="left", dx=-8, dy=-9, color=palette.fresh, fontWeight=600)
        layers.append(label.encode(x=x, y=y, text=alt.Text("text:N")))
    dots = chart(points).mark_point(filled=not panel.joined, size=34, strokeWidth=1.4, opacity=1)
    layers.append(dots.encode(x=x, y=y, color=alt.Color("colour:N", scale=None, legend=None)))
    title = alt.TitleParams(panel.title, fontSize=13, offset=8)
    return layered(layers, width=width, height=height, title=title)
