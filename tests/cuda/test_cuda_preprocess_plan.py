"""Plans of the preprocess kernels, which need no GPU: where all lies, what is moved, what is refused."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from preprocess_emulator import SOURCES, PreprocessEmulator, View

from edge_ad.config.local import tomllib
from edge_ad.errors import ConfigError
from edge_ad.preprocess.cuda import floor, layout
from edge_ad.preprocess.cuda.cameras import CameraPixels
from edge_ad.preprocess.cuda.plan import PreprocessPlan, plan_preprocess

ROOT = Path(__file__).resolve().parents[2]
TOP = CameraPixels("top", (60, 80))


def busy_plan() -> PreprocessPlan:
    """Every launch there is."""
    cameras = [
        CameraPixels("top", (601, 802, 2), "yuv422_uyvy", located=True),
        CameraPixels("left", (33, 41, 3), "rgb8", located=True),
        CameraPixels("right", (1201, 950), "mono12"),
    ]
    views = [View(roi=(5, 7, 700, 300), tiles=(2, 3), overlap=9), View("b", "right"), View("c", "left")]
    return plan_preprocess(views, cameras, 20, 24)


def test_every_argument_is_a_buffer_or_a_number_and_every_buffer_is_used() -> None:
    plan = busy_plan()
    names = set(plan.constants) | set(plan.sizes)
    used = {a for launch in plan.launches for a in launch.arguments if isinstance(a, str)}
    assert used == names
    assert [launch.kernel for launch in plan.launches] == [
        "convert_pixels", "straighten", "halve_regions", "resize_tiles",
    ]  # fmt: skip
    assert all(launch.block == layout.BLOCK and min(launch.grid) > 0 for launch in plan.launches)
    assert plan.launches[-1].shared <= 48 << 10  # without asking for more
    assert plan.launches[-1].grid == (3 * 1, 6 + 2)
    assert plan.rows == 8
    assert plan.sizes["rows"] == 8 * 20 * 24 * 3
    fields = [
        layout.CONVERSION_FIELDS, layout.STRAIGHTENING_FIELDS, layout.HALVING_FIELDS, layout.TILE_FIELDS,
    ]  # fmt: skip
    tables = [plan.constants[str(launch.arguments[0])] for launch in plan.launches]
    assert [table.shape[1] for table in tables] == [len(names) for names in fields]


def test_nothing_in_a_buffer_overlaps() -> None:
    """Frames in `raw`, and in `scratch` what each launch makes."""
    plan = busy_plan()
    assert plan.frame_sizes == (601 * 802 * 2, 33 * 41 * 3, 1201 * 950 * 2)
    raw = list(zip(plan.starts, plan.frame_sizes, strict=True))
    scratch = []
    for row in plan.constants["conversions"].tolist():
        place = dict(zip(layout.CONVERSION_FIELDS, row, strict=True))
        channels = 1 if layout.FORMATS[place["format"]] in ("deep", "grey_of_bgr") else 3
        scratch.append((place["image"], place["width"] * place["height"] * channels))
    for row in plan.constants["straightenings"].tolist():
        place = dict(zip(layout.STRAIGHTENING_FIELDS, row, strict=True))
        scratch.append((place["target"], place["columns"] * place["rows"] * place["channels"]))
    for row in plan.constants["halvings_0"].tolist():
        place = dict(zip(layout.HALVING_FIELDS, row, strict=True))
        sides = (-(-place[side] // 2 ** place["levels"]) for side in ("width", "height"))
        scratch.append((place["target"], int(np.prod([*sides, place["channels"]]))))
    for places, name in ((raw, "raw"), (scratch, "scratch")):
        places.sort()
        assert all(start % layout.ALIGNMENT == 0 for start, _ in places)
        ends = [start + size for start, size in places]
        assert all(end <= start for end, (start, _) in zip(ends, places[1:], strict=False))
        assert ends[-1] + layout.SLACK == plan.sizes[name]


def test_only_what_tiles_are_cut_from_is_laid_straight() -> None:
    view = View(roi=(11, 5, 40, 33))
    plan = plan_preprocess([view], [replace(TOP, located=True)], 8, 8)
    [row] = plan.constants["straightenings"].tolist()
    place = dict(zip(layout.STRAIGHTENING_FIELDS, row, strict=True))
    assert [place[name] for name in ("left", "top", "columns", "rows")] == [11, 5, 40, 33]
    assert plan.sizes["scratch"] == 40 * 33 + layout.SLACK


def test_tiles_of_one_size_share_their_steps() -> None:
    one = plan_preprocess([View()], [TOP], 9, 9)
    many = plan_preprocess([View(), View("again"), View("part", roi=(0, 0, 80, 60))], [TOP], 9, 9)
    assert len(many.constants["steps"]) == len(one.constants["steps"])


def test_bytes_of_a_part_are_those_of_its_launches() -> None:
    def tables(plan: PreprocessPlan) -> int:
        return sum(array.nbytes for array in plan.constants.values())

    result = 9 * 9 * 3
    plain = plan_preprocess([View()], [TOP], 9, 9)
    assert plain.bytes_per_frame == 60 * 80 + result + tables(plain)
    halves = plan_preprocess([View()], [TOP], 9, 9, halves=True)
    assert halves.bytes_per_frame == plain.bytes_per_frame + result
    overlapping = plan_preprocess([View(), View("a", roi=(0, 0, 50, 50))], [TOP], 9, 9)
    assert overlapping.bytes_per_frame == 60 * 80 + 2 * result + tables(overlapping)
    straight = plan_preprocess([View(roi=(1, 1, 50, 40))], [replace(TOP, located=True)], 9, 9)
    assert straight.bytes_per_frame == 3 * 50 * 40 + result + tables(straight)
    deep = plan_preprocess([View()], [replace(TOP, pixel_format="mono12")], 9, 9)
    assert deep.bytes_per_frame == (2 + 1 + 1) * 60 * 80 + result + tables(deep)
    halved = plan_preprocess([View()], [CameraPixels("top", (160, 161))], 8, 8)  # four times
    assert halved.bytes_per_frame == 160 * 161 + 2 * 20 * 21 + 8 * 8 * 3 + tables(halved)


@pytest.mark.parametrize(
    ("camera", "expected"),
    [
        (CameraPixels("top", (61, 80), "bayerrg8"), "even sides of at least 4 px, frames are 61 x 80"),
        (CameraPixels("top", (2, 80), "bayerrg8"), "even sides of at least 4 px"),
        (CameraPixels("top", (60, 80, 3), "bayerbg8"), "one channel"),
        (CameraPixels("top", (60, 81, 2), "yuv422_yuyv"), "two bytes per pixel and an even width"),
        (CameraPixels("top", (60, 80), "yuv422_yuyv"), "two bytes per pixel"),
        (CameraPixels("top", (60, 80, 3), "mono10"), "one channel"),
        (CameraPixels("top", (60, 80, 4)), "one or three channels"),
        (CameraPixels("top", (60, 80), "rgb8"), "three channels"),
        (CameraPixels("top", (60, 40_000)), "sides of 1 to 32768 px"),
    ],
)
def test_frames_that_a_format_cannot_have_are_refused(camera: CameraPixels, expected: str) -> None:
    with pytest.raises(ConfigError, match=f"camera top: .*{expected}.*set pixel_format"):
        plan_preprocess([View()], [camera], 8, 8)


def test_what_else_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="bit_depth: 11 does not fit 'mono10'"):
        plan_preprocess([View()], [replace(TOP, pixel_format="mono10", bit_depth=11)], 8, 8)
    with pytest.raises(ConfigError, match="pixel_format: unknown 'nv12'"):
        plan_preprocess([View()], [replace(TOP, pixel_format="nv12")], 8, 8)
    with pytest.raises(ConfigError, match=r"view front: roi .* is outside of 80 x 60 px"):
        plan_preprocess([View(roi=(1, 0, 80, 60))], [TOP], 8, 8)
    zones = {"top": (np.zeros((60, 81), np.uint8), [1])}
    with pytest.raises(ConfigError, match="zones of 81 x 60 px in a frame of 80 x 60 px; draw them"):
        plan_preprocess([View()], [TOP], 8, 8, zones)
    most = [CameraPixels(f"c{i}", (18_000, 18_000)) for i in range(8)]
    with pytest.raises(ConfigError, match=r"raw take 2592\d+ bytes on the GPU, \d+ at most"):
        plan_preprocess([View(f"v{i}", f"c{i}") for i in range(8)], most, 8, 8)
    large = CameraPixels("top", (4000, 4000))
    with pytest.raises(
        ConfigError, match=r"rows take \d+ bytes on the GPU, \d+ at most; give the views"
    ):
        plan_preprocess([View(tiles=(40, 40))], [large], 1024, 1024)


def test_reading_beyond_a_buffer_ends_the_emulation(preprocess: PreprocessEmulator) -> None:
    plan = plan_preprocess([View()], [TOP], 9, 9)
    short = replace(plan, constants={**plan.constants, "steps": plan.constants["steps"][:-20]})
    with pytest.raises(AssertionError, match="ended with -11"):
        preprocess.rows(short, [np.zeros(TOP.shape, np.uint8)])


def test_the_committed_table_is_what_the_plans_say() -> None:
    results = (ROOT / "calibration" / "RESULTS.md").read_text(encoding="utf-8")
    section = results.split("## CUDA preprocessing\n", 1)[1].split("\n## ", 1)[0]
    assert [line for line in section.splitlines() if line.startswith("|")] == floor.table()
    assert "not measured" in section


def test_a_plan_needs_no_gpu_and_no_library_for_one() -> None:
    names = [f"edge_ad.preprocess.cuda.{path.stem}" for path in SOURCES.glob("*.py")]
    code = (
        f"import importlib, sys; [importlib.import_module(name) for name in {names}];"
        "print(sorted({m.split('.')[0] for m in sys.modules}"
        " & {'pycuda', 'cuda', 'cupy', 'torch', 'tensorrt', 'numba', 'openvino'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_package_ships_its_sources() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["edge_ad"]
    shipped = {path for pattern in patterns for path in (ROOT / "edge_ad").glob(pattern)}
    assert {path for path in SOURCES.iterdir() if path.suffix in (".cu", ".cuh")} <= shipped
