"""The bench of a GPU as a command, with stand-ins for driver and TensorRT: what it counts and says.

Times of a stand-in mean nothing; that they are taken, and add up, is looked at.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from gpu_programs import edge_ad, stand_in_for_tensorrt
from tiny_backbone import write_tiny_backbone

from edge_ad.bench.gpu import host_times, spread
from edge_ad.gaussian.cuda.levels import LevelShape, plan_levels

pytestmark = pytest.mark.fake_driver
SIZE = ("--width", 160, "--height", 100, "--frames", 10)


@pytest.fixture(scope="module", autouse=True)
def tensorrt(fake_library: Path) -> None:
    stand_in_for_tensorrt()


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("net")
    write_tiny_backbone(directory)
    return directory


def bench(net: Path, to: Path, *more: Any) -> tuple[str, dict[str, Any]]:
    done = edge_ad("bench", "--gpu", "--backbone", net, *SIZE, *more, "--json", to)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(to.read_text())


def test_it_tells_every_part_of_a_frame(net: Path, tmp_path: Path) -> None:
    told, result = bench(net, tmp_path / "bench.json")
    for key in ("network", "graph", "stream"):
        percentiles = list(result[key].values())
        assert list(result[key]) == ["p50", "p95", "p99", "p999", "max"]
        assert percentiles == sorted(percentiles)
        assert percentiles[0] > 0
    assert list(result["stages"]) == ["upload", "preprocess", "backbone", "distances", "download"]
    assert result["graph_p99_over_p50"] == pytest.approx(
        result["graph"]["p99"] / result["graph"]["p50"], abs=1e-3
    )
    assert (result["engine"], result["width"], result["height"]) == ("tensorrt-f16", 160, 100)
    assert result["captured"]
    for words in ("network alone", "whole frame, one graph", "preprocess", "memory floor", "GB/s"):
        assert words in told


def test_the_floor_is_what_the_kernels_read(net: Path, tmp_path: Path) -> None:
    _, result = bench(net, tmp_path / "paper.json", "--profile", "paper", "--tiles", 2, 3)
    shapes, at = [], 0
    for width in (8, 12, 16, 24):  # of the small network's levels
        shapes.append(LevelShape(at, width, width, "f32"))
        at += width
    kernels = result["kernels"]["distances"]
    assert kernels["bytes"] == plan_levels([shapes] * 6, at).bytes_per_frame
    floor = kernels["bytes"] / result["copy_gbs"] / 1e3
    rounding = 6e-3 + floor * 0.051 / result["copy_gbs"]  # of the one and of the other
    assert kernels["floor_us"] == pytest.approx(floor, abs=rounding)
    assert kernels["us"] > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--gpu", "--threads", 2), "--threads: is not for a bench with --gpu"),
        (("--precision", "f16"), "--precision: is not for a bench without --gpu"),
        (("--gpu", "--engine", "torch", "--precision", "f16"), "torch: has no precision f16"),
    ],
)
def test_what_cannot_be_measured_is_said(options: tuple[Any, ...], words: str) -> None:
    done = edge_ad("bench", *options, "--frames", 10)
    assert done.returncode == 2
    assert words in done.stderr


def test_percentiles_are_of_the_times_that_were_taken() -> None:
    taken: list[int] = []
    times = host_times(taken.append, 5)
    assert taken == [0, 1, 2, 3, 4]
    assert (times > 0).all()
    found = spread(times)
    assert found.max == pytest.approx(times.max(), abs=0.01)
