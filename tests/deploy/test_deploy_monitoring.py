"""What is watched in Prometheus and Grafana exists, and says what it should of a line that runs."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from free_ports import free_ports
from tiny_bundle import HEIGHT, WIDTH, make_bundle
from tiny_station import ENTRY

from edge_ad.delivery.curve import write_pair

MONITORING = Path(__file__).resolve().parents[2] / "deploy" / "monitoring"
RULES = MONITORING / "prometheus" / "edge_ad.rules.yml"
DASHBOARDS = sorted((MONITORING / "grafana" / "dashboards").glob("*.json"))

needs_prometheus = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")),
    reason="no Prometheus: apt-get install prometheus",
)


def promtool(*words: str) -> None:
    done = subprocess.run(
        ["promtool", *words], cwd=RULES.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def expressions() -> list[str]:
    """Of every panel, as Grafana would ask with station line1 and a scrape every second."""
    found = []
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", []):
                expr = target["expr"].replace("$station", "line1").replace("$__rate_interval", "10s")
                assert "$" not in expr
                found.append(expr)
    return found


def alerts() -> list[str]:
    return re.findall(r"alert: (\w+)", RULES.read_text())


@needs_prometheus
def test_configuration_and_rules_are_valid_and_do_what_they_should() -> None:
    promtool("check", "config", "prometheus.yml")
    promtool("test", "rules", "edge_ad.rules_test.yml")


def test_every_alert_is_tested_and_says_what_to_do() -> None:
    names = alerts()
    assert len(names) == len(set(names)) > 20
    tested = re.findall(r"- name: (EdgeAd\w+)", (RULES.parent / "edge_ad.rules_test.yml").read_text())
    assert sorted(tested) == sorted(names)
    text = RULES.read_text()
    for word in ("severity: ", "summary: ", "description: "):
        assert text.count(word) == len(names) + (word == "severity: ")  # the page's head explains it


@pytest.mark.skipif(sys.version_info < (3, 11), reason="the foundation SDK is for Python 3.11 on")
def test_dashboards_are_what_the_code_says(monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        # Of the new layout of files, which a Grafana before 12 does not read.
        warnings.simplefilter("ignore", DeprecationWarning)
        monkeypatch.syspath_prepend(str(MONITORING))
        made = importlib.import_module("dashboards").files()
    assert {path.name: path.read_text() for path in DASHBOARDS} == made


def test_dashboards_ask_the_chosen_prometheus_and_fit_the_page() -> None:
    for path in DASHBOARDS:
        board = json.loads(path.read_text())
        assert board["uid"].startswith("edge-ad-")
        for panel in board["panels"]:
            if panel["type"] == "row":
                continue
            assert panel["datasource"]["uid"] == "${datasource}"
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24


class Site:
    """A daemon, the station at the gate, a PLC bridge, and a Prometheus that scrapes all three."""

    def __init__(self, root: Path, stack: ExitStack) -> None:
        self._stack = stack
        self._started = 0
        ports = dict(
            zip(("edge_ad", "edge_ad_gate", "edge_ad_plc", "modbus", "web"), free_ports(5), strict=True)
        )
        self._url = f"http://127.0.0.1:{ports['web']}/api/v1"
        make_bundle(root / "state")
        write_pair(root / "keys", "station")
        camera = f"synthetic://?seed=1&width={WIDTH}&height={HEIGHT}&fps=20&defect_rate=0.2"
        self._run(root, "run", "line.toml", f"""schema = 1
station = "line1"
[[camera]]
name = "top"
uri = "{camera}"
[verdicts]
consumers = ["gate", "plc"]
[evidence]
min_free = 0.0
[scores]
endpoint = "tcp://127.0.0.1:0"
[curve]
secret = "keys/station.key_secret"
[metrics]
port = {ports["edge_ad"]}
""")  # fmt: skip
        self._run(root, "station", "gate.toml", f"""schema = 1
station = "line1"
[[source]]
name = "main"
endpoint = "ipc://state/verdicts.sock"
[belt]
travel_ms = 500.0
[present]
uri = "ipc://gate-state/present.sock"
[output]
uri = "ipc://gate-state/gate.sock"
[metrics]
port = {ports["edge_ad_gate"]}
""")  # fmt: skip
        self._run(root, "plc", "plc.toml", f"""schema = 1
[fieldbus.options]
port = {ports["modbus"]}
[metrics]
port = {ports["edge_ad_plc"]}
""")  # fmt: skip
        shutil.copytree(MONITORING / "prometheus", root / "prometheus")
        for name in ("prometheus.yml", "edge_ad.rules.yml"):
            path = root / "prometheus" / name
            path.write_text(re.sub(r"(_interval|for): \w+", r"\1: 1s", path.read_text()))
        for job in ("edge_ad", "edge_ad_gate", "edge_ad_plc"):
            path = root / "prometheus" / "targets" / f"{job}.yml"
            path.write_text(re.sub(r"127.0.0.1:\d+", f"127.0.0.1:{ports[job]}", path.read_text()))
        self._start(
            root, "prometheus", f"--config.file={root / 'prometheus' / 'prometheus.yml'}",
            f"--storage.tsdb.path={root / 'tsdb'}", f"--web.listen-address=127.0.0.1:{ports['web']}",
        )  # fmt: skip

    def ask(self, what: str, **words: str) -> Any:
        """Of Prometheus's API."""
        with urllib.request.urlopen(
            f"{self._url}/{what}?{urllib.parse.urlencode(words)}", timeout=10
        ) as reply:
            answer = json.load(reply)
        assert answer["status"] == "success"
        return answer["data"]

    def values(self, expr: str) -> list[dict[str, Any]]:
        """What a query gives now."""
        found: list[dict[str, Any]] = self.ask("query", query=expr)["result"]
        return found

    def wait(self, expr: str, timeout_s: float = 60) -> None:
        """Until a query gives something."""
        end = time.monotonic() + timeout_s
        while True:
            try:
                if self.values(expr):
                    return
            except OSError:  # it is not up yet
                pass
            assert time.monotonic() < end, expr
            time.sleep(0.3)

    def _run(self, root: Path, command: str, file: str, text: str) -> None:
        (root / file).write_text(text)
        self._start(root, *ENTRY, command, "-c", str(root / file))

    def _start(self, root: Path, *words: str) -> None:
        self._started += 1
        log = self._stack.enter_context((root / f"{self._started}.log").open("w"))
        process = subprocess.Popen(words, cwd=root, stdout=log, stderr=log)
        self._stack.callback(process.wait)
        self._stack.callback(process.terminate)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with ExitStack() as stack:
        one = Site(tmp_path_factory.mktemp("site"), stack)
        one.wait("count(up == 1) == 3")
        one.wait("sum(edge_ad_parts_total) > 100")
        one.wait("station:edge_ad_part_seconds:p99_5m > 0")
        yield one


@needs_prometheus
def test_every_metric_that_is_named_exists(site: Site) -> None:
    known = set(site.ask("label/__name__/values"))
    rules = [rule["query"] for group in site.ask("rules")["groups"] for rule in group["rules"]]
    assert len(rules) > 30
    for expr in (*rules, *expressions()):
        words = re.sub(r'"[^"]*"', "", expr)
        named = set(
            re.findall(r"\bstation:[\w:]+|\b(?:edge_ad|process)_\w+", re.sub(r"\{[^}]*\}", "", words))
        )
        assert named <= known, expr


@needs_prometheus
def test_every_panel_has_something_to_show(site: Site) -> None:
    empty = [expr for expr in expressions() if not site.values(expr)]
    # Nothing went wrong, and nothing came to the gate.
    assert [expr for expr in empty if "> 0" not in expr and "ALERTS" not in expr] == []


@needs_prometheus
def test_an_alert_names_the_station_and_the_remedy(site: Site) -> None:
    site.wait('ALERTS{alertname="EdgeAdPlcSilent", alertstate="firing"}')
    found = next(
        one for one in site.ask("alerts")["alerts"] if one["labels"]["alertname"] == "EdgeAdPlcSilent"
    )
    assert found["labels"]["severity"] == "critical"
    assert found["annotations"]["summary"] == "line1: the bridge does not hear the PLC, or the daemon"
    # 20 % are bad, the daemon is well: nothing of it is wrong but that. How full the disk is that the
    # tests run on is not its doing.
    firing = {one["metric"]["alertname"] for one in site.values('ALERTS{alertstate="firing"}')}
    assert firing <= {"EdgeAdPlcSilent", "EdgeAdRejectRateHigh", "EdgeAdDiskLow"}
