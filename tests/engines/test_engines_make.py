"""`edge-ad backbone build`: from a backbone's directory into the cache, without a card."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from networks import pictures
from tiny_backbone import write_tiny_backbone
from tiny_station import write_parts, write_station

from edge_ad.backbone.spec import Backbone
from edge_ad.backbone.tensorrt.build import Options
from edge_ad.backbone.tensorrt.cache import read_entries, read_plan
from edge_ad.backbone.tensorrt.library import Library
from edge_ad.backbone.tensorrt.lookup import find_engine
from edge_ad.backbone.tensorrt.make import Made, Request, make_engine
from edge_ad.cuda.facts import NO_DEVICE
from edge_ad.errors import ConfigError, DeviceError


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return write_tiny_backbone(tmp_path_factory.mktemp("tiny"))


def _make(request: Request, rtx: Library, cache: Path | None, said: list[str] | None = None) -> Made:
    told = said if said is not None else []
    return make_engine(request, rtx, NO_DEVICE, "560.35.05", cache, say=told.append)


def test_an_engine_is_built_once(tiny: Backbone, rtx: Library, tmp_path: Path) -> None:
    first = _make(Request(tiny, "f16", 2, 4), rtx, tmp_path)
    assert first.entry is not None
    assert first.built is not None
    assert read_plan(first.entry) == first.built.plan
    said: list[str] = []
    again = _make(Request(tiny, "f16", 2, 4), rtx, tmp_path, said)
    assert (again.entry, again.built) == (first.entry, None)
    assert said == ["converting tiny to f16"]
    assert find_engine(tmp_path, first.key.wanted) == first.entry
    assert first.entry.record.driver == "560.35.05"
    assert first.entry.needs_check("560.35.05")


def test_what_differs_is_built_beside(tiny: Backbone, rtx: Library, tmp_path: Path) -> None:
    frames = tuple(pictures(tiny, 1))
    requests = [
        Request(tiny, "f16"),
        Request(tiny, "f32"),
        Request(tiny, "int8", frames=frames),
        Request(tiny, "int8", frames=frames[::-1] + frames[:1] * 3),
        Request(tiny, "int8", frames=tuple(frame // 2 for frame in frames)),
        Request(tiny, "f16", 2),
        Request(tiny, "f16", 1, 4),
        Request(tiny, "f16", options=Options(optimization_level=2)),
        Request(tiny, "f16", options=Options(workspace_mib=64)),
    ]
    keys = [_make(request, rtx, tmp_path).key for request in requests]
    # The same pictures in another order, some of them twice, set the same ranges.
    assert keys[2] == keys[3]
    assert len({key.id for key in keys}) == len(read_entries(tmp_path)[0]) == len(requests) - 1
    assert [key.flags[1] for key in keys[:3]] == ["no-tf32", "no-tf32", "tf32"]


def test_a_damaged_engine_is_said_and_built_anew(tiny: Backbone, rtx: Library, tmp_path: Path) -> None:
    made = _make(Request(tiny, "f32"), rtx, tmp_path)
    assert made.entry is not None
    made.entry.plan_path.write_bytes(b"damaged")
    said: list[str] = []
    again = _make(Request(tiny, "f32"), rtx, tmp_path, said)
    assert again.built is not None
    assert read_plan(made.entry) == again.built.plan
    assert "engine.plan: the engine is corrupted: 7 bytes" in said[1]


def test_a_cache_that_cannot_be_is_found_before_anything_is_built(
    tiny: Backbone, rtx: Library, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    said: list[str] = []
    with pytest.raises(DeviceError, match=r"file: the engine cache cannot be written"):
        _make(Request(tiny, "f32"), rtx, tmp_path / "file", said)
    assert said == []


def test_weak_typing_goes_with_half_alone(tiny: Backbone, rtx: Library) -> None:
    old = Library("tensorrt", rtx.module, "10.3.0")
    with pytest.raises(ConfigError, match=r"--weak-fp16 with --precision int8: it is for f16"):
        _make(Request(tiny, "int8", options=Options(weak_fp16=True)), old, None)


def _edge_ad(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    code = "from edge_ad.cli.main import main; main()"
    command = [sys.executable, "-W", "error", "-c", code, "backbone", "build", *map(str, arguments)]
    wide = {**os.environ, "COLUMNS": "200", **environment}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=wide)


def test_the_command_builds_for_the_tiles_of_a_station(tmp_path: Path) -> None:
    """Batch, features per position and cache by the station; int8's pictures cut as it cuts them."""
    station = write_station(tmp_path, extra='[[view]]\nname = "a"\ncamera = "top"\ntiles = [1, 2]\n')
    write_parts(tmp_path / "good", 4)
    done = _edge_ad(
        "-c", station.path, "--precision", "int8", "--frames", tmp_path / "good",
        "--library", "tensorrt-rtx",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (entry,) = read_entries(tmp_path / "state" / "engines")[0]
    key = entry.record.key
    assert (key.batch, key.local_dim, key.precision, key.library) == (2, 10, "int8", "tensorrt-rtx")
    record = json.loads((entry.directory / "engine.json").read_text())
    assert record["plan_bytes"] == entry.plan_path.stat().st_size
    for told in (
        "int8, strongly-typed, tf32",
        "2, 10 features per position",
        str(entry.directory),
        key.id,
    ):
        assert told in done.stdout
    assert "building with tensorrt-rtx" in done.stdout


def test_the_command_shows_what_was_there_already(tiny: Backbone, tmp_path: Path) -> None:
    arguments = [tiny.directory, "--library", "tensorrt-rtx", "--cache", tmp_path, "--local-dim", "none"]
    assert "(was there)" not in _edge_ad(*arguments).stdout
    assert "(was there)" in _edge_ad(*arguments).stdout
    assert "no features per position" in _edge_ad(*arguments).stdout


def test_a_trial_keeps_nothing(tiny: Backbone, tmp_path: Path) -> None:
    before = sorted(tiny.directory.rglob("*"))
    done = _edge_ad(tiny.directory, "--library", "tensorrt-rtx")
    assert done.returncode == 0, done.stderr
    assert "not kept" in done.stdout
    assert sorted(tiny.directory.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "no backbone: give its directory, or a station file with -c"),
        (["nowhere"], 3, "no backbone here"),
        (["DIR", "--local-dim", "11"], 2, "has 10 features per position, asked for 11"),
        (["DIR", "--local-dim", "many"], 2, "expected 1..4096 features per position, or none"),
        (["DIR", "--precision", "int8"], 2, "give their directory with --frames"),
        (["DIR", "--weak-fp16"], 2, "--weak-fp16 is for TensorRT 10.3 and before"),
        (["DIR", "--frames", "nowhere"], 4, "no such directory"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(
    tiny: Backbone, arguments: list[str], code: int, message: str
) -> None:
    given = [str(tiny.directory) if one == "DIR" else one for one in arguments]
    done = _edge_ad(*given, "--library", "tensorrt-rtx")
    assert (done.returncode, done.stderr.count("\n")) == (code, 1), done.stderr
    assert message in done.stderr


def test_without_a_driver_the_command_says_so(tiny: Backbone, tmp_path: Path) -> None:
    """Also where there is one: a file that is no library comes first."""
    (tmp_path / "libcuda.so.1").write_bytes(b"")
    done = _edge_ad(tiny.directory, "--cache", tmp_path, LD_LIBRARY_PATH=str(tmp_path))
    assert done.returncode == 5
    assert done.stderr.startswith("edge-ad: libcuda.so.1: no NVIDIA driver here")
    assert "install NVIDIA's driver" in done.stderr
