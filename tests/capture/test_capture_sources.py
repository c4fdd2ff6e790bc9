from __future__ import annotations

import threading
import time
from pathlib import Path
from queue import SimpleQueue

import cv2
import numpy as np
import pytest
from daemon_line import ScriptedSource

from edge_ad.capture.defects import DEFECTS
from edge_ad.capture.folder import FolderSource
from edge_ad.capture.leaving import let_go
from edge_ad.capture.opencv import LiveSource
from edge_ad.capture.parts import (
    SIDE,
    part_defect,
    part_placement,
    part_side,
    plate,
    render_part,
)
from edge_ad.capture.source import Source, open_source
from edge_ad.config import Camera
from edge_ad.errors import CaptureError, ConfigError
from edge_ad.frame import Frame


def source(uri: str, base: Path = Path(), **keys: object) -> Source:
    made = open_source(Camera(name="top", uri=uri, **keys), base)
    made.open()
    return made


def drain(made: Source) -> list[Frame]:
    frames = []
    while (frame := made.read()) is not None:
        frames.append(frame)
    made.close()
    return frames


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i, name in enumerate(("a.png", "b/c.png", "b/d.png")):
        path = tmp_path / "parts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((8, 10), i, np.uint8))
    return tmp_path / "parts"


@pytest.mark.parametrize("relative", [False, True])
def test_folder_gives_each_file_once_in_order(folder: Path, relative: bool) -> None:
    uri = "folder://parts" if relative else f"folder://{folder}"
    frames = drain(source(uri, folder.parent))
    assert [f.part_key for f in frames] == ["a.png", "b/c.png", "b/d.png"]
    assert [f.index for f in frames] == [0, 1, 2]
    assert [int(f.image[0, 0]) for f in frames if f.image is not None] == [0, 1, 2]
    assert {f.camera for f in frames} == {"top"}
    times = [f.t_trigger_ns for f in frames]
    assert times == sorted(times) and 0 <= time.monotonic_ns() - times[-1] < 60e9


def test_one_bad_file_is_a_fault_and_the_stream_goes_on(folder: Path) -> None:
    (folder / "b/c.png").write_bytes(b"")
    frames = drain(source(f"folder://{folder}"))
    assert [f.fault for f in frames] == ["", "unreadable", ""]
    assert frames[1].image is None and "b/c.png" in frames[1].detail


def test_folder_loops_with_keys_of_their_own(folder: Path) -> None:
    looping = source(f"folder://{folder}?loop=1")
    keys = [frame.part_key for _ in range(7) if (frame := looping.read())]
    assert keys[:4] == ["a.png", "b/c.png", "b/d.png", "a.png#2"]
    assert len(set(keys)) == 7
    looping.close()
    assert looping.read() is None


def test_reopening_starts_the_folder_anew_and_goes_on_counting(folder: Path) -> None:
    made = source(f"folder://{folder}")
    first = drain(made)
    made.open()
    second = drain(made)
    assert [f.part_key for f in first] == [f.part_key for f in second]
    assert [f.index for f in second] == [3, 4, 5]


def test_pace_follows_the_clock_and_close_ends_the_waiting(folder: Path) -> None:
    now = [0]
    paced = FolderSource(
        Camera(name="top", uri=f"folder://{folder}?loop=1&fps=0.001"), Path(), clock=lambda: now[0]
    )
    paced.open()
    assert paced.read() is not None
    done: list[object] = []
    thread = threading.Thread(target=lambda: done.append(paced.read()))
    thread.start()
    thread.join(0.2)
    assert thread.is_alive()  # the next frame is due in 1000 s
    paced.close()
    thread.join(10)
    assert not thread.is_alive()
    assert paced.read() is None


def test_a_folder_name_may_hold_a_hash(tmp_path: Path) -> None:
    """The part before it may be a folder too: another one."""
    for name in ("lot", "lot#3"):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / f"{name}.png"), np.zeros((8, 8), np.uint8))
    uri = f"folder://{tmp_path}/lot#3?fps=1e-300"
    source = open_source(Camera(name="top", uri=uri), tmp_path)
    source.open()
    frame = source.read()
    assert frame is not None and frame.part_key == "lot#3.png"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("ftp://x", "no known scheme; use v4l2:"),
        ("/dev/video0", "no known scheme"),
        ("folder:///x?lop=1", "unknown parameter 'lop'; have loop, fps"),
        ("folder:///x?loop=yes", "loop='yes' is not an integer"),
        ("folder:///x?fps=-1", "out of range"),
        ("folder://[x", "Invalid IPv6"),
        ("synthetic://?defect_rate=2", "defect_rate is 0 to 1"),
        ("synthetic://?width=9&height=9", "32 to 8192"),
        ("synthetic://?width=8000&height=8192", "max_megapixels"),
        ("synthetic://?fps=nan", "out of range"),
    ],
)
def test_uri_errors_name_camera_and_remedy(uri: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"camera 'top': uri .*{message}"):
        open_source(Camera(name="top", uri=uri), Path())


@pytest.mark.parametrize("scheme", ["folder", "file"])
def test_missing_paths_are_capture_errors(scheme: str, tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="no such"):
        source(f"{scheme}://{tmp_path}/none")


@pytest.mark.parametrize(
    "uri", ["v4l2:///dev/video97", "rtsp://user:secret@127.0.0.1:9/x", "file://{bad}"]
)
def test_a_camera_that_is_not_there_is_one_quiet_line(
    uri: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"not a video at all" * 50)
    with pytest.raises(CaptureError) as caught:
        source(uri.format(bad=tmp_path / "bad.mp4"))
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def write_video(path: Path, frames: int) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for i in range(frames):
        writer.write(np.full((48, 64, 3), 20 * i, np.uint8))
    writer.release()


def test_video_file_frame_by_frame_to_its_end(tmp_path: Path) -> None:
    write_video(tmp_path / "line 1.avi", 9)
    made = source("file://line%201.avi", tmp_path)
    frames = drain(made)
    assert [round(float(f.image.mean()) / 20) for f in frames if f.image is not None] == list(range(9))
    assert frames[0].image is not None and frames[0].image.shape == (48, 64, 3)
    assert made.read() is None
    made.open()
    assert len(drain(made)) == 9


def test_video_of_a_grey_camera_becomes_grey_and_loops(tmp_path: Path) -> None:
    write_video(tmp_path / "v.avi", 3)
    looping = source(f"file://{tmp_path}/v.avi?loop=1", pixel_format="mono8")
    frames = [looping.read() for _ in range(8)]
    assert all(f is not None and f.image is not None and f.image.shape == (48, 64) for f in frames)
    looping.close()
    assert looping.read() is None


def test_video_over_the_pixel_limit_is_refused(tmp_path: Path) -> None:
    write_video(tmp_path / "v.avi", 2)
    with pytest.raises(CaptureError, match="raise max_megapixels"):
        source(f"file://{tmp_path}/v.avi", max_megapixels=0.001)


class FakeCapture:
    """A camera as cv2.VideoCapture shows it: frames are pushed in by the test."""

    def __init__(self) -> None:
        self.frames: list[np.ndarray | None] = []
        self.changed = threading.Condition()
        self.released = threading.Event()

    def push(self, frame: np.ndarray | None) -> None:
        with self.changed:
            self.frames.append(frame)
            self.changed.notify_all()

    def isOpened(self) -> bool:
        return True

    def get(self, key: int) -> float:
        return {cv2.CAP_PROP_FRAME_WIDTH: 4, cv2.CAP_PROP_FRAME_HEIGHT: 2}[key]

    def read(self) -> tuple[bool, np.ndarray | None]:
        with self.changed:
            self.changed.wait_for(lambda: self.frames, 20)
            frame = self.frames.pop(0) if self.frames else None
        return frame is not None, frame

    def release(self) -> None:
        self.released.set()


def live(stale_ms: float = 20_000) -> tuple[LiveSource, FakeCapture]:
    fake = FakeCapture()
    camera = Camera(name="top", uri="rtsp://host/x", pixel_format="mono8", stale_ms=stale_ms)
    made = LiveSource(camera, opener=lambda: fake)
    made.open()
    return made, fake


def grey(value: int) -> np.ndarray:
    return np.full((2, 4), value, np.uint8)


def test_a_live_camera_gives_its_newest_frame_and_counts_the_others() -> None:
    made, fake = live()
    for value in range(5):
        fake.push(grey(value))
    deadline = time.monotonic() + 20
    while made.skipped < 4 and time.monotonic() < deadline:
        time.sleep(0.005)
    frame = made.read()
    assert frame is not None and frame.image is not None and frame.image[0, 0] == 4
    assert (frame.index, made.skipped) == (0, 4)
    made.close()


def test_a_lost_camera_raises_and_can_be_opened_again() -> None:
    made, fake = live()
    fake.push(None)
    with pytest.raises(CaptureError, match="stopped sending"):
        made.read()
    assert fake.released.wait(20)
    made.close()
    made.open()
    fake.push(grey(7))
    frame = made.read()
    assert frame is not None and frame.image is not None and frame.image[0, 0] == 7
    made.close()


def test_a_silent_camera_is_noticed_by_our_own_clock() -> None:
    made, _fake = live(stale_ms=50)
    with pytest.raises(CaptureError, match=r"no frame for 50 ms \(stale_ms\)"):
        made.read()
    made.close()


def test_close_from_another_thread_ends_a_waiting_read() -> None:
    made, fake = live()
    done: list[object] = []
    thread = threading.Thread(target=lambda: done.append(made.read()))
    thread.start()
    made.close()
    made.close()
    thread.join(20)
    assert done == [None]
    fake.push(grey(0))
    assert fake.released.wait(20)


def test_a_frame_of_another_format_is_a_fault_not_a_loss() -> None:
    made, fake = live()
    fake.push(np.zeros((2, 4), np.uint16))
    frame = made.read()
    assert frame is not None and frame.fault == "pixel_format" and "8-bit" in frame.detail
    made.close()


def test_rendered_parts_are_deterministic_and_numbered() -> None:
    uri = "synthetic://?seed=5&width=160&height=120&defect_rate=0.5&parts=12"
    first, second = drain(source(uri)), drain(source(uri))
    assert [f.part_key for f in first] == [f"S{i:08d}" for i in range(12)]
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
    image, _ = render_part(5, 7, 160, 120, 0.5)
    np.testing.assert_array_equal(first[7].image, image)
    assert image.shape == (120, 160) and image.dtype == np.uint8


def test_rendered_parts_differ_from_one_another_and_between_seeds() -> None:
    images = [render_part(seed, i, 160, 120, 0.0)[0] for seed in (1, 2) for i in (0, 1)]
    for i in range(4):
        for j in range(i):
            assert np.abs(images[i].astype(int) - images[j]).mean() > 1


def test_ground_truth_is_what_was_rendered() -> None:
    told = [part_defect(3, i, 0.3, good_first=20) for i in range(300)]
    assert told == [render_part(3, i, 64, 48, 0.3, good_first=20)[1] for i in range(300)]
    assert not any(told[:20])
    assert set(told[20:]) == {"", *DEFECTS}
    assert 50 <= sum(map(bool, told)) <= 120


@pytest.mark.parametrize("defect", DEFECTS)
def test_defects_are_visible_and_small(defect: str) -> None:
    for index in range(30):
        good = plate(1, 640, 480).render(index, "").astype(int)
        change = np.abs(plate(1, 640, 480).render(index, defect).astype(int) - good)
        assert change.max() >= 20
        assert 25 <= (change > 8).sum() <= 0.015 * change.size


def test_rendered_parts_lie_where_they_are_asked_to() -> None:
    """Off by the stated placement, and as before where none is asked for."""
    camera = Camera(name="c", uri="synthetic://?width=160&height=120&shift=0.1&angle=12")
    source, plain = open_source(camera, Path()), plate(1, 160, 120)
    source.open()
    for index in range(3):
        frame = source.read()
        assert frame is not None
        placement = part_placement(1, index, 160, 120, 0.1, 12)
        np.testing.assert_array_equal(
            frame.image, plain.render(index, part_defect(1, index, 0.05), placement)
        )
        assert abs(placement.dx) <= 16
        assert abs(placement.dy) <= 12
        assert abs(placement.angle) <= 12
        still, moved = plain.placed(index), plain.placed(index, placement)
        np.testing.assert_allclose(moved @ [80, 60, 1] - still @ [80, 60, 1], placement[:2], atol=0.1)


@pytest.mark.parametrize("query", ["shift=1.5", "angle=190"])
def test_placements_beyond_the_frame_are_refused(query: str) -> None:
    with pytest.raises(ConfigError, match="shift is 0 to 1, angle 0 to 180 degrees"):
        open_source(Camera(name="c", uri=f"synthetic://?{query}"), Path())


def test_several_cameras_see_the_same_parts_from_several_sides() -> None:
    """The same keys and placement, another grain, the defect on one side, and some parts lost."""
    query = "synthetic://?width=160&height=120&defect_rate=1&parts=12&cameras=2&lose=0.3&camera="
    seen: list[dict[str, np.ndarray]] = []
    for camera in (0, 1):
        source = open_source(Camera(name="c", uri=f"{query}{camera}"), Path())
        source.open()
        frames = iter(source.read, None)
        seen.append({f.part_key: f.image for f in frames if f.part_key and f.image is not None})
    assert set(seen[0]) != set(seen[1])
    assert all(len(found) < 12 for found in seen)
    for key in set(seen[0]) & set(seen[1]):
        index, sides = int(key[1:]), [plate(1 + SIDE * camera, 160, 120) for camera in (0, 1)]
        assert not np.array_equal(seen[0][key], seen[1][key])
        for camera, found in enumerate(seen):
            with_it = part_side(1, index, 2) == camera
            expected = sides[camera].render(index, part_defect(1, index, 1.0) if with_it else "")
            np.testing.assert_array_equal(found[key], expected)


@pytest.mark.parametrize("query", ["cameras=2&camera=2", "cameras=17", "lose=1"])
def test_cameras_that_there_are_not_are_refused(query: str) -> None:
    with pytest.raises(ConfigError, match="camera is 0 to cameras - 1"):
        open_source(Camera(name="c", uri=f"synthetic://?{query}"), Path())


def test_who_lets_go_of_a_camera_waits_until_it_is_free() -> None:
    class Slow(ScriptedSource):
        """Its camera is let go of by a thread, a while later."""

        def __init__(self) -> None:
            super().__init__("top", SimpleQueue())
            self.free = threading.Event()

        def stop(self) -> threading.Thread:
            thread = threading.Timer(0.2, self.free.set)
            thread.start()
            return thread

    source = Slow()
    let_go(source)
    assert source.free.is_set()
