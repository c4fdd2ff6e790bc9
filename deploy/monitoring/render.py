# /// script
# requires-python = ">=3.10"
# dependencies = ["matplotlib>=3.8"]
# ///
"""Draws a dashboard without a Grafana, from the same file and the same queries to the same Prometheus:

pipx run deploy/monitoring/render.py grafana/dashboards/line.json --station line1 -o line.png
"""

from __future__ import annotations

import argparse
import json
import re
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.dates
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

COLOURS = {"green": "#56a64b", "red": "#e02f44", "blue": "#3274d9"}
WIDE, ROW = 24, 0.42  # columns of a dashboard; inches of one of its rows
Series = dict[str, Any]


class Prometheus:
    """Asks for the last `minutes`."""

    def __init__(self, url: str, minutes: float) -> None:
        self._url = f"{url}/api/v1"
        self._end = time.time()
        self._start = self._end - 60 * minutes

    def now(self, expr: str) -> list[Series]:
        """The value of each series."""
        return self._ask("query", query=expr, time=self._end)

    def over_time(self, expr: str) -> list[Series]:
        """The values of each series."""
        step = max(5.0, (self._end - self._start) / 200)
        return self._ask("query_range", query=expr, start=self._start, end=self._end, step=step)

    def _ask(self, what: str, **words: Any) -> list[Series]:
        url = f"{self._url}/{what}?{urllib.parse.urlencode(words)}"
        with urllib.request.urlopen(url, timeout=30) as reply:
            result: list[Series] = json.load(reply)["data"]["result"]
        return result


def value(number: float, unit: str) -> str:
    """As Grafana writes it, nearly."""
    if number != number:
        return "-"
    if unit == "percentunit":
        return f"{100 * number:.3g} %"
    if unit == "s":
        return f"{1000 * number:.3g} ms" if number < 1 else f"{number:.3g} s"
    if unit == "bytes":
        for size, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
            if number >= size:
                return f"{number / size:.3g} {name}"
    if unit == "bool_yes_no":
        return "yes" if number else "no"
    return f"{number:.3g}" if number < 1000 else f"{number:.0f}"


def name_of(series: Series, legend: str) -> str:
    """Its legend, as {{label}} says."""
    labels = series["metric"]
    if legend == "__auto":
        return ", ".join(v for k, v in labels.items() if k != "__name__") or "value"
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda match: labels.get(match[1], ""), legend)


def colour_of(name: str, panel: dict[str, Any]) -> str | None:
    """What the panel fixes for a series."""
    for override in panel["fieldConfig"]["overrides"]:
        if override["matcher"]["options"] == name and override["properties"][0]["id"] == "color":
            fixed = override["properties"][0]["value"]["fixedColor"]
            return COLOURS.get(fixed, fixed)
    return None


def draw_stat(axes: Axes, panel: dict[str, Any], source: Prometheus) -> None:
    """One number, or the name of the series that there is."""
    target, defaults = panel["targets"][0], panel["fieldConfig"]["defaults"]
    found = source.now(target["expr"])
    number = float(found[0]["value"][1]) if found else float("nan")
    text, colour = value(number, defaults.get("unit", "short")), None
    if panel["options"].get("textMode") == "name" and found:
        text = name_of(found[0], target["legendFormat"])
        colour = colour_of(text, panel)
    steps = defaults["thresholds"]["steps"]
    if len(steps) > 1:
        reached = [step for step in steps if step["value"] is None or number >= step["value"]]
        colour = COLOURS.get(reached[-1]["color"], reached[-1]["color"])
    axes.set_facecolor(colour or "white")
    ink = "white" if colour else "black"
    axes.text(0.5, 0.42, text, ha="center", va="center", size=19, color=ink, transform=axes.transAxes)


def draw_lines(axes: Axes, panel: dict[str, Any], source: Prometheus) -> None:
    """Lines, or what is stacked of them."""
    custom, unit = panel["fieldConfig"]["defaults"]["custom"], panel["fieldConfig"]["defaults"]["unit"]
    drawn: list[tuple[str, list[float], list[float]]] = []
    for target in panel["targets"]:
        for series in source.over_time(target["expr"]):
            times = [float(moment) / 86400 for moment, _ in series["values"]]
            numbers = [float(number) for _, number in series["values"]]
            drawn.append((name_of(series, target["legendFormat"]), times, numbers))
    if custom.get("stacking", {}).get("mode") == "normal" or custom.get("drawStyle") == "bars":
        moments = sorted({moment for _, times, _ in drawn for moment in times})
        base = dict.fromkeys(moments, 0.0)
        for number, (name, times, numbers) in enumerate(drawn):
            here = {t: n for t, n in zip(times, numbers, strict=True) if n == n}
            top = {moment: base[moment] + here.get(moment, 0.0) for moment in moments}
            colour = colour_of(name, panel) or f"C{number}"
            axes.fill_between(
                moments, list(base.values()), list(top.values()), label=name, alpha=0.75, lw=0,
                step="mid", color=colour,
            )  # fmt: skip
            base = top
    else:
        for name, times, numbers in drawn:
            axes.plot(times, numbers, label=name, lw=1.2, color=colour_of(name, panel))
    for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"][1:]:
        axes.axhline(step["value"], color=COLOURS.get(step["color"]), lw=0.8, ls="--")
    axes.set_ylim(0, 1.06 * axes.get_ylim()[1])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda number, _: value(number, unit)))
    axes.xaxis.set_major_locator(matplotlib.dates.AutoDateLocator(maxticks=5))
    axes.xaxis.set_major_formatter(matplotlib.dates.DateFormatter("%H:%M"))
    axes.tick_params(labelsize=7, length=2)
    axes.grid(color="#e0e0e0", lw=0.5)
    if drawn:
        axes.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=4, fontsize=7, frameon=False,
            columnspacing=1, handlelength=1,
        )  # fmt: skip
    else:
        axes.text(0.5, 0.5, "nothing", ha="center", color="#909090", transform=axes.transAxes)


def draw_table(axes: Axes, panel: dict[str, Any], source: Prometheus) -> None:
    """A line for each station."""
    titles, rows = ["station"], {}
    for number, target in enumerate(panel["targets"]):
        properties = {
            one["id"]: one["value"]
            for override in panel["fieldConfig"]["overrides"]
            if override["matcher"]["options"] == f"Value #{target['refId']}"
            for one in override["properties"]
        }
        titles.append(properties["displayName"])
        for series in source.now(target["expr"]):
            row = rows.setdefault(series["metric"]["station"], [""] * len(panel["targets"]))
            row[number] = value(float(series["value"][1]), properties["unit"])
    cells = [[station, *row] for station, row in sorted(rows.items())]
    table = axes.table(cells, colLabels=titles, loc="upper center", cellLoc="left", edges="horizontal")
    table.set_fontsize(9)
    table.scale(0.98, 1.5)


DRAW = {"stat": draw_stat, "timeseries": draw_lines, "table": draw_table}


def render(board: dict[str, Any], source: Prometheus, output: Path, width: float) -> None:
    """Draw every panel where Grafana has it."""
    panels = board["panels"]
    tall = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    figure = plt.figure(figsize=(width, ROW * tall), facecolor="#f4f5f5")
    for panel in panels:
        place = panel["gridPos"]
        left, top = place["x"] / WIDE, 1 - place["y"] / tall
        if panel["type"] == "row":
            figure.text(
                left + 0.008, top - 0.6 / tall, panel["title"], size=11, weight="bold", va="center"
            )
            continue
        small = panel["type"] == "stat"
        edge = 0.006 if panel["type"] != "timeseries" else 0.035
        low = 0.2 if small else 1.3
        axes = figure.add_axes((
            left + edge, top - (place["h"] - low) / tall, place["w"] / WIDE - edge - 0.006,
            (place["h"] - low - (0.2 if small else 1.0)) / tall,
        ))  # fmt: skip
        DRAW[panel["type"]](axes, panel, source)
        if panel["type"] != "timeseries":
            axes.set_xticks([])
            axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_color("#d0d0d0")
        if small:
            axes.text(0.02, 0.86, panel["title"], size=8, transform=axes.transAxes, va="center",
                      color="black" if axes.get_facecolor() == (1, 1, 1, 1) else "white")  # fmt: skip
        else:
            axes.set_title(panel["title"], size=9, loc="left", pad=4)
    figure.savefig(output, dpi=64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("dashboard", type=Path)
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090")
    parser.add_argument("--station", default="line1")
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--width", type=float, default=16, help="inches of 64 pixels")
    parser.add_argument("-o", "--output", type=Path, required=True)
    words = parser.parse_args()
    text = (
        words.dashboard.read_text().replace("$station", words.station).replace("$__rate_interval", "1m")
    )
    render(json.loads(text), Prometheus(words.prometheus, words.minutes), words.output, words.width)


if __name__ == "__main__":
    main()
