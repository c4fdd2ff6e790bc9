"""Changeover between products: between two parts, read back, and never by the wrong bundle."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from daemon_line import BLACK, Line, good, wait_for
from tiny_bundle import make_bundle
from tiny_station import ENTRY, edge_ad, write_parts, write_station

from edge_ad.bundle import open_bundle
from edge_ad.config import Station, load_station, parse_station, with_product
from edge_ad.daemon.loading import build_inspector
from edge_ad.errors import ConfigError, DeliveryError, DeviceError


def sha256(state: Path, product: str) -> str:
    return open_bundle(state / "bundles" / product / "current").sha256


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Product "all" has a threshold that passes everything, "none" one that passes nothing."""
    make_bundle(tmp_path, product="all", threshold=1e6)
    make_bundle(tmp_path, product="none", threshold=1e-3)
    return tmp_path


PRODUCTS = {"product": "all", "products": ["all", "none", "new"]}


def change(line: Line, name: str) -> dict[str, Any]:
    return line.control.request("product", name=name)


def test_products_change_between_two_parts_and_the_bundle_is_read_back(state: Path) -> None:
    built = []

    def build(station: Station) -> Any:
        built.append(station.product)
        return build_inspector(station)

    with Line(state, options=PRODUCTS, build=build) as line:
        for _ in range(100):
            if len(built) == 3:
                break
            time.sleep(0.05)
        assert built == ["all", "none", "new"]  # loaded before they are needed
        line.feed(good(0))
        assert line.verdicts(1) == ["PASS"]
        for name, verdict in (("none", "REJECT score"), ("all", "PASS"), ("none", "REJECT score")):
            answer = change(line, name)
            assert (answer["product"], answer["bundle"]) == (name, sha256(state, name))
            line.feed(BLACK)
            header, body = line.verdict()
            assert f"{body.verdict} {body.reason}".strip() == verdict
            assert (header.product, header.bundle) == (name, sha256(state, name))
        assert len(built) == 3  # and kept
        assert change(line, "none")["bundle"] == sha256(state, "none")  # once more changes nothing
        status = line.control.request("status")
        assert (status["product"], status["bundle"]) == ("none", sha256(state, "none"))
        assert set(status["products"]) == {"all", "none", "new"}


def test_what_is_not_known_is_fault(state: Path) -> None:
    with Line(state, options=PRODUCTS) as line:
        with pytest.raises(DeliveryError, match=r"'cap' is not among .*FAULT unknown_product"):
            change(line, "cap")
        line.feed(good(0))
        assert line.verdicts(1) == ["FAULT unknown_product"]
        assert change(line, "new")["bundle"] == ""
        line.feed(good(1))
        assert line.verdicts(1) == ["FAULT uncalibrated"]
        change(line, "all")
        line.feed(good(2))
        assert line.verdicts(1) == ["PASS"]
        with pytest.raises(DeliveryError, match="needs the name of a product"):
            line.control.request("product")


def test_parts_from_before_a_changeover_are_fault(state: Path) -> None:
    """The part is triggered, and waits while the one before it is inspected."""
    gate = {"open": True}

    class Slow:
        def __init__(self, inspector: Any) -> None:
            self._inspector = inspector

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inspector, name)

        def inspect_part(self, images: Any) -> Any:
            while not gate["open"]:
                time.sleep(0.01)
            return self._inspector.inspect_part(images)

    def build(station: Station) -> Any:
        inspector = build_inspector(station)
        return None if inspector is None else Slow(inspector)

    with Line(state, options={**PRODUCTS, "deadline_ms": 60_000.0}, build=build) as line:
        gate["open"] = False
        line.feed(good(0), good(1))
        time.sleep(0.3)  # the first is being inspected, the second waits
        answer = line.daemon.change_product("none")
        time.sleep(0.2)
        gate["open"] = True
        assert answer.result(10)["product"] == "none"
        line.feed(good(2))
        assert line.verdicts(3) == ["PASS", "FAULT changeover", "REJECT score"]


def test_a_product_whose_bundle_is_refused_is_fault_and_the_others_go_on(state: Path) -> None:
    (state / "bundles/none/current/gaussian.safetensors").write_bytes(b"damaged")
    with Line(state, options=PRODUCTS) as line:
        assert change(line, "none")["bundle"] == ""
        line.feed(good(0))
        assert line.verdicts(1) == ["FAULT uncalibrated"]
        change(line, "all")
        line.feed(good(1))
        assert line.verdicts(1) == ["PASS"]


def test_a_product_that_could_not_be_loaded_is_tried_again(state: Path) -> None:
    """As where the GPU had no room for it at the changeover."""
    full = [True]

    def build(station: Station) -> Any:
        if station.product == "none" and full[0]:
            raise DeviceError("the GPU is out of memory")
        return build_inspector(station)

    with Line(state, options=PRODUCTS, build=build) as line:
        assert change(line, "none")["bundle"] == ""
        status = line.control.request("status")
        assert (status["state"], status["why"]) == ("FAILED", "the GPU is out of memory")
        change(line, "all")
        assert change(line, "none")["bundle"] == ""  # it was not kept as one without a bundle
        line.feed(good(0))
        assert line.verdicts(1) == ["FAULT uncalibrated"]
        full[0] = False
        wait_for(lambda: line.control.request("status")["state"] == "RUNNING")
        line.feed(good(1))
        assert line.verdicts(1) == ["REJECT score"]


def test_a_product_that_the_station_does_not_know_is_refused_in_words() -> None:
    station = parse_station({"schema": 1, "station": "s", "product": "a", "products": ["a", "b"],
                             "camera": [{"name": "c", "uri": "folder:///x"}]})  # fmt: skip
    assert station.known_products == ("a", "b")
    assert with_product(station, "b").known_products == ("b", "a")
    with pytest.raises(ConfigError, match=r"product 'c' is not among its products \['a', 'b'\]"):
        with_product(station, "c")


def test_a_line_that_changes_over_and_calibrates_again(tmp_path: Path) -> None:
    """The commands, beside a daemon process: a reload goes on with what is being made."""
    station = write_station(tmp_path, "synthetic://?width=96&height=72&defect_rate=0&fps=20")
    line = tmp_path / "line.toml"
    line.write_text(line.read_text().replace('product = "disc"', 'product = "disc"\nproducts = ["lid"]'))
    for product, first in (("disc", 0), ("lid", 100)):
        write_parts(tmp_path / product, 25, first)
        done = edge_ad("calibrate", "-c", line, "--product", product, "--from", tmp_path / product)
        assert done.returncode == 0, done.stderr
    assert edge_ad("calibrate", "-c", line, "--product", "cap", "--refit").returncode == 2
    with subprocess.Popen([*ENTRY, "run", "-c", str(line)], stderr=subprocess.DEVNULL) as daemon:
        try:
            for _ in range(200):
                shown = edge_ad("product", "-c", line)
                if shown.returncode == 0:
                    break
                time.sleep(0.1)
            assert shown.stdout.splitlines()[0] == "product  disc"
            changed = edge_ad("product", "-c", line, "lid")
            assert sha256(station.state_path, "lid") in changed.stdout
            done = edge_ad("calibrate", "-c", line, "--product", "lid", "--refit")
            assert done.returncode == 0, done.stderr
            again = edge_ad("product", "-c", line)
            assert again.stdout.splitlines() == [
                "product  lid",
                f"bundle   {sha256(station.state_path, 'lid')}",
            ]
            assert again.stdout != changed.stdout
            refused = edge_ad("calibrate", "-c", line, "--product", "disc", "--parts", 20)
            assert refused.returncode == 2
            assert "'edge-ad product disc' changes over" in refused.stderr
            unknown = edge_ad("product", "-c", line, "cap")
            assert (unknown.returncode, "unknown_product" in unknown.stderr) == (5, True)
        finally:
            daemon.terminate()


def test_a_product_named_in_a_file_that_was_refused_is_taken_once_the_file_is_well(
    tmp_path: Path,
) -> None:
    station = write_station(tmp_path, uri="fake://", extra="dark = 0\nbright = 255")
    make_bundle(station.state_path, product="disc", threshold=1e6)
    make_bundle(station.state_path, product="lid", threshold=1e-3)
    file = Path(station.path)
    text = file.read_text().replace('product = "disc"', 'product = "disc"\nproducts = ["disc", "lid"]')
    with Line(station.state_path, options={"product": "disc", "products": ["disc", "lid"]}) as line:
        file.write_text(text)
        line.daemon.station = load_station(file)
        other = text.replace('product = "disc"', 'product = "lid"')
        file.write_text(other.replace('"fake://"', '"other://"'))  # which a reload cannot change
        with pytest.raises(DeliveryError):
            line.control.request("reload", timeout_s=30)
        file.write_text(other)
        assert line.control.request("reload", timeout_s=30)["product"] == "lid"


def test_a_reload_does_not_bring_the_old_product_back(state: Path) -> None:
    """Of an unknown product every part stays FAULT, whatever else is read again."""
    with Line(state, options=PRODUCTS) as line:
        daemon = line.daemon
        failing = daemon.loop.active.inspector
        assert failing is not None
        with pytest.raises(DeliveryError, match="unknown_product"):
            change(line, "cap")
        daemon.changes.rebuild(failing, "the engine failed, before")
        wait_for(lambda: not daemon.changes.rebuilding)
        daemon.changes._read_again = lambda: (daemon.station, "all")  # type: ignore[method-assign]
        daemon.station = msgspec.structs.replace(daemon.station, path="line.toml")
        daemon.reload().result(10)
        line.feed(good(0))
        assert line.verdicts(1) == ["FAULT unknown_product"]
        assert line.control.request("status")["product"] == "cap"
        change(line, "all")
        line.feed(good(1))
        assert line.verdicts(1) == ["PASS"]
