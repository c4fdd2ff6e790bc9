"""Rendered defects through a real bundle of a tiny network."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from daemon_line import good
from tiny_bundle import make_bundle
from tiny_station import part_image, write_parts, write_station

from edge_ad.bundle import ViewRule
from edge_ad.calibrate import Request as CalibrateRequest
from edge_ad.calibrate import calibrate
from edge_ad.calibrate.job import Candidate
from edge_ad.calibrate.progress import Silent
from edge_ad.capture.insertion import KINDS
from edge_ad.config import Station, parse_station
from edge_ad.errors import CaptureError, CheckFailed, ConfigError
from edge_ad.frame import Image
from edge_ad.resolution import Request, measure
from edge_ad.resolution.ground import Ground
from edge_ad.resolution.trials import alter, run_trials
from edge_ad.verdict import Decision, Reason, Verdict, fault

STRONG = {"contrast": 1.0, "trials": 12, "kinds": ("stain",)}


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Station:
    """A bundle of 40 parts, and a folder of others."""
    directory = tmp_path_factory.mktemp("line")
    station = write_station(directory, extra='frame_size = "fixed"')
    write_parts(directory / "good", 40)
    write_parts(directory / "others", 20, first=100)
    calibrate(station, CalibrateRequest(directory=directory / "good"))
    return station


def place(station: Station) -> Path:
    return Path(station.path).parent


def test_large_ones_are_found_and_tiny_ones_are_not(station: Station) -> None:
    result = measure(station, Request(good=place(station) / "others", **STRONG))  # type: ignore[arg-type]
    (stain,) = result.kinds
    assert stain.sizes[-1].size == 16  # of the default sizes the largest that fits 48 px
    assert stain.sizes[-1].detected == 12
    assert stain.found is not None and 2 < stain.found <= 16
    faint = measure(station, Request(good=place(station) / "others", trials=12, contrast=0.02))
    for kind in faint.kinds:
        assert kind.found is None and kind.found_network is None
        assert [one.size for one in kind.sizes] == [12, 16]  # smaller ones are not worth the time
    (view,) = result.views
    assert (view.width, view.height) == (64, 48)


def test_the_same_twice_and_with_other_sizes_and_kinds(station: Station) -> None:
    def sizes(**changed: object) -> dict[tuple[str, float], int]:
        options = {"sizes": (3.0, 6.0, 12.0), "contrast": 0.6, "trials": 10, **changed}
        result = measure(station, Request(good=place(station) / "others", **options))  # type: ignore[arg-type]
        return {(k.kind, one.size): one.detected for k in result.kinds for one in k.sizes}

    first = sizes()
    assert first == sizes()
    fewer = sizes(sizes=(6.0, 12.0), kinds=("pit",))
    assert fewer == {key: first[key] for key in fewer}
    assert first != sizes(seed=1)


def test_parts_that_do_not_pass_are_left_out_and_counted(station: Station, tmp_path: Path) -> None:
    write_parts(tmp_path, 5, first=100)
    holed = part_image(1)
    holed[10:30, 20:44] = 255
    cv2.imwrite(str(tmp_path / "holed.png"), holed)
    cv2.imwrite(str(tmp_path / "wide.png"), np.zeros((48, 70), np.uint8))
    (tmp_path / "empty.png").write_bytes(b"")
    result = measure(station, Request(good=tmp_path, sizes=(12.0,), **STRONG))  # type: ignore[arg-type]
    unused = {one.source: one for one in result.unused}
    assert {"holed.png", "wide.png", "empty.png"} <= unused.keys()
    assert (unused["holed.png"].why, unused["wide.png"].why) == ("rejected", "FAULT")
    assert "zero bytes" in unused["empty.png"].detail
    assert "70 x 48 px, the bundle has 64 x 48" in unused["wide.png"].detail
    assert result.good == 8 - len(unused)
    (line,) = [text for name, text in result.summary() if name == "parts"]
    assert "1 FAULT" in line and "1 unreadable" in line


def test_no_part_that_passes(station: Station, tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="no such directory"):
        measure(station, Request(good=tmp_path / "none"))
    with pytest.raises(CaptureError, match="no images in the folder"):
        measure(station, Request(good=tmp_path))
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(CaptureError, match=r"1 unreadable \(first: .*zero bytes.*can be read"):
        measure(station, Request(good=tmp_path))
    cv2.imwrite(str(tmp_path / "white.png"), np.full((48, 64), 255, np.uint8))
    with pytest.raises(CheckFailed, match=r"no part passes unaltered.*1 rejected.*calibrate again"):
        measure(station, Request(good=tmp_path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sizes": (4.0, 4.0)}, "4 comes after 4; give each size once"),
        ({"sizes": (0.0, 4.0)}, "0 is no size of a defect; give 1 camera pixel or more"),
        ({"sizes": (float("nan"),)}, "nan is no size"),
        ({"kinds": ("pit", "crack")}, "'crack' is no kind of defect; give some of scratch,pit,stain"),
        ({"kinds": ()}, "nothing is no kind"),
        ({"trials": 0}, "0 is no number of trials; give 1 or more"),
        ({"contrast": 0.0}, "0 is not over 0"),
        ({"contrast": float("nan")}, "nan is not over 0"),
        ({"seed": -1}, "-1 is negative"),
    ],
)
def test_what_cannot_be_measured(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Request(good=Path(), **options)  # type: ignore[arg-type]


def test_a_size_with_no_room(station: Station) -> None:
    with pytest.raises(ConfigError, match=r"20 px is too large for view 'top' of 64 x 48 px.* up to 16"):
        measure(station, Request(good=place(station) / "others", sizes=(4.0, 20.0)))


def test_examples_show_before_and_after(station: Station, tmp_path: Path) -> None:
    request = Request(good=place(station) / "others", sizes=(6.0, 12.0), trials=2, pictures=tmp_path)
    measure(station, request)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"{kind}-{size}px.png" for kind in KINDS for size in (6, 12)}
    picture = cv2.imread(str(tmp_path / "stain-12px.png"), cv2.IMREAD_UNCHANGED)
    half = (picture.shape[1] - 6) // 2
    assert (picture[:, :half] != picture[:, -half:]).any()


def test_every_place_of_a_view_and_nothing_outside() -> None:
    views = [ViewRule(name=name, camera=name, roi=(10, 20, 40, 30)) for name in ("top", "side")]
    images = [np.full((80, 90), 120, np.uint8), np.full((80, 90, 3), 120, np.uint8)]
    seen = [np.zeros((80, 90), bool) for _ in images]
    for trial in range(200):
        kind = KINDS[trial % 3]
        found = alter(
            images, ["top", "side"], views, kind, 4.0, 0.5, np.random.default_rng(trial), Ground(), ()
        )
        changed = [(a != b) for a, b in zip(images, found.images, strict=True)]
        assert not changed[1 - found.camera].any()
        one = changed[found.camera]
        plane = one if one.ndim == 2 else one.any(axis=2)
        x, y, width, height = found.spot
        assert plane[y : y + height, x : x + width].any()
        seen[found.camera] |= plane
    assert all((image == 120).all() for image in images)
    for plane in seen:
        rows, columns = np.nonzero(plane)
        assert rows.min() >= 20 and rows.max() < 50 and columns.min() >= 10 and columns.max() < 50
        assert plane[20:50, 10:50].mean() > 0.8


def test_a_fault_is_no_detection() -> None:
    class Half:
        """Rejects and fails in turn."""

        cameras = ("top",)
        threshold = 1.0
        count = 0

        def inspect_part(self, images: list[Image]) -> Verdict:
            self.count += 1
            if self.count % 2:
                return fault(Reason.NOT_FINITE)
            return Verdict(Decision.REJECT, Reason.SCORE, 2.0, 1.0)

    class Same:
        def read(self, part: Candidate) -> list[Image]:
            return [np.full((48, 64), 100, np.uint8)]

    request = Request(good=Path(), kinds=("pit",), trials=10)
    found = run_trials(
        Half(), Same(), [Candidate("a", {})], [ViewRule(name="top", camera="top")], [4.0, 8.0],  # type: ignore[arg-type]
        request, Silent(),
    )  # fmt: skip
    assert [(one.size, one.detected, one.faults) for one in found["pit"]] == [(8, 5, 5), (4, 5, 5)]


def test_several_cameras(tmp_path: Path) -> None:
    make_bundle(tmp_path / "state", cameras=("top", "side"))
    station = parse_station(
        {
            "schema": 1, "station": "s", "state_dir": str(tmp_path / "state"), "engine": {"threads": 1},
            "camera": [{"name": c, "uri": "synthetic://?width=96&height=72"} for c in ("side", "top")],
        }
    )  # fmt: skip
    for number in range(6):
        for camera in ("top", "side"):
            path = tmp_path / "good" / camera / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), good(100 + number))
    (tmp_path / "good" / "top" / "5.png").unlink()
    result = measure(station, Request(good=tmp_path / "good", sizes=(24.0,), **STRONG))  # type: ignore[arg-type]
    assert [view.name for view in result.views] == ["top", "side"]
    assert ("5.png", "incomplete") in {(one.source, one.why) for one in result.unused}
    assert result.kinds[0].sizes[0].detected > 6
