"""Writes the Grafana dashboards: `python deploy/monitoring/dashboards.py`.

Needs `grafana-foundation-sdk` (it is in the extra `test`). What is shown is said in panels.py, once; the
JSON in grafana/dashboards is what a Grafana provisions, and a test compares both.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as dashboards
from grafana_foundation_sdk.builders import prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models
from panels import FLEET, GREEN, LINE, Panel

PLACE = Path(__file__).parent / "grafana" / "dashboards"
SOURCE = common.DataSourceRef(type_val="prometheus", uid="${datasource}")


def build(panel: Panel) -> Any:
    """The panel as Grafana's own."""
    kind, finish = _KINDS[panel.kind]
    made: Any = kind()
    made.title(panel.title).datasource(SOURCE).unit(panel.unit).span(panel.width).height(panel.height)
    if panel.text:
        made.description(panel.text)
    for letter, query in zip("ABCDEF", panel.queries, strict=False):
        target = prometheus.Dataquery().expr(query.expr).ref_id(letter).datasource(SOURCE)
        if query.instant:
            target.instant()
        else:
            target.range()
        if panel.kind == "table":
            target.format("table")
        else:
            target.legend_format(query.legend)
        made.with_target(target)
    steps = [
        models.Threshold(value=value, color=colour) for value, colour in ((None, GREEN), *panel.steps)
    ]
    made.thresholds(dashboards.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps))
    for name, colour in panel.colours.items():
        fixed = models.DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": colour})
        made.override_by_name(name, [fixed])
    finish(made, panel)
    return made


def _stat(made: Any, panel: Panel) -> None:
    made.color_mode(
        common.BigValueColorMode.BACKGROUND_SOLID
        if panel.steps or panel.colours
        else common.BigValueColorMode.NONE
    )
    made.graph_mode(
        common.BigValueGraphMode.NONE if panel.queries[0].instant else common.BigValueGraphMode.AREA
    )
    made.reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
    if panel.named:
        made.text_mode(common.BigValueTextMode.NAME)


def _lines(made: Any, panel: Panel) -> None:
    made.line_width(2).fill_opacity(20 if panel.stacked else 0).axis_soft_min(0)
    made.legend(
        common_builders.VizLegendOptions().show_legend(True).placement(common.LegendPlacement.BOTTOM)
    )
    made.tooltip(common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
    if panel.stacked:
        made.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL))
    if panel.steps:
        style = common_builders.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.LINE)
        made.thresholds_style(style)


def _bars(made: Any, panel: Panel) -> None:
    _lines(made, panel)
    made.draw_style(common.GraphDrawStyle.BARS).line_width(0).fill_opacity(80)


def _table(made: Any, panel: Panel) -> None:
    made.with_transformation(
        models.DataTransformerConfig(
            id_val="joinByField", options={"byField": "station", "mode": "outer"}
        )
    )
    made.with_transformation(
        models.DataTransformerConfig(
            id_val="organize",
            options={"excludeByName": {f"Time {i}": True for i in range(1, 7)} | {"Time": True}},
        )
    )
    for letter, (title, unit) in panel.columns.items():
        made.override_by_name(
            f"Value #{letter}",
            [
                models.DynamicConfigValue(id_val="displayName", value=title),
                models.DynamicConfigValue(id_val="unit", value=unit),
            ],
        )
    link = {"title": "this line", "url": "/d/edge-ad-line?var-station=${__data.fields.station}"}
    made.override_by_name("station", [models.DynamicConfigValue(id_val="links", value=[link])])


_KINDS: dict[str, tuple[Any, Any]] = {
    "stat": (stat.Panel, _stat),
    "lines": (timeseries.Panel, _lines),
    "bars": (timeseries.Panel, _bars),
    "table": (table.Panel, _table),
}


def dashboard(title: str, uid: str, rows: list[tuple[str, list[Panel]]], chosen: bool) -> str:
    """A dashboard's JSON. `chosen`: it shows one station, which is chosen above."""
    made = (
        dashboards.Dashboard(title).uid(uid).tags(["edge_ad"]).refresh("10s").time("now-1h", "now")
        .readonly().tooltip(models.DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboards.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )  # fmt: skip
    if chosen:
        made.with_variable(
            dashboards.QueryVariable("station").label("Station").datasource(SOURCE)
            .query("label_values(edge_ad_build_info, station)")
            .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        )  # fmt: skip
    for name, panels in rows:
        made.with_row(dashboards.Row(name))
        for panel in panels:
            made.with_panel(build(panel))
    return JSONEncoder(sort_keys=True, indent=1).encode(made.build()) + "\n"


def files() -> dict[str, str]:
    """Each dashboard by its file's name."""
    return {
        "line.json": dashboard("edge_ad: one line", "edge-ad-line", LINE, chosen=True),
        "fleet.json": dashboard("edge_ad: all lines", "edge-ad-fleet", FLEET, chosen=False),
    }


if __name__ == "__main__":
    PLACE.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (PLACE / name).write_text(text, encoding="utf-8")
