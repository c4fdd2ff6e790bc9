"""Where the parts come from: a directory, or the line itself."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from edge_ad.calibrate.job import Candidate
from edge_ad.calibrate.progress import Progress
from edge_ad.calibration_set import encode_frame
from edge_ad.capture.images import list_images, printable
from edge_ad.capture.shots import make_dealer, read_part
from edge_ad.capture.source import open_source
from edge_ad.config import Station
from edge_ad.delivery.access import open_control
from edge_ad.delivery.control import ControlClient
from edge_ad.delivery.lock import StateLock, running_pid
from edge_ad.errors import CaptureError, ConfigError, DeliveryError, DeviceError
from edge_ad.frame import Frame

POLL_S = 0.25
QUIET_S = 10.0  # nothing collected for so long is worth a word


def find_parts(
    directory: Path, cameras: Sequence[str], stored: bool = False
) -> tuple[list[Candidate], list[str]]:
    """The parts in a directory, and the names of incomplete ones.

    With one camera every image is a part; with several, DIR/<camera>/NAME of every camera is one part.
    Raises CaptureError when there is no directory, or no image in it.
    """
    if len(cameras) == 1:
        images = list_images(directory)
        return [
            Candidate(printable(path.relative_to(directory)), {cameras[0]: os.fsencode(path)}, stored)
            for path in images
        ], []
    found: dict[str, dict[str, bytes]] = {}
    for camera in cameras:
        for path in list_images(directory / camera):
            name = printable(path.relative_to(directory / camera))
            found.setdefault(name, {})[camera] = os.fsencode(path)
    complete = {name: files for name, files in found.items() if len(files) == len(cameras)}
    if not complete:
        raise CaptureError(
            f"{directory}: no file name is there for every camera {list(cameras)}; name the pictures of "
            "one part alike"
        )
    parts = [Candidate(name, files, stored) for name, files in sorted(complete.items())]
    return parts, sorted(set(found) - set(complete))


def collect(station: Station, parts: int, directory: Path, progress: Progress) -> None:
    """Write `parts` parts from the line below `directory`: by the daemon when it is up, else directly.

    A finite source may end early. Raises CaptureError, DeliveryError and DeviceError.
    """
    if running_pid(station.state_path) is not None:
        _by_daemon(station, parts, directory, progress)
        return
    lock = StateLock(station.state_path)  # no daemon opens the camera meanwhile
    try:
        _directly(station, parts, directory, progress)
    finally:
        lock.release()


def _by_daemon(
    station: Station,
    parts: int,
    directory: Path,
    progress: Progress,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    with open_control(station) as client:
        made = client.request("status").get("product", station.product)
        if made != station.product:
            raise ConfigError(
                f"the daemon makes product {made!r}, parts of {station.product!r} are to be collected; "
                f"'edge-ad product {station.product}' changes over"
            )
        _end_orphan(client, progress)
        client.request("collect", parts=parts, directory=str(directory))
        try:
            _follow(client, parts, progress, clock)
        except BaseException:
            with suppress(DeliveryError):  # what went wrong first is what counts
                client.request("collect_cancel")
            raise


def _end_orphan(client: ControlClient, progress: Progress) -> None:
    """End a collection whose command was killed: the set's lock is ours, so nobody else follows it."""
    told = False
    while (client.request("status").get("collect") or {}).get("done") is False:
        if not told:
            client.request("collect_cancel")
            progress.note("ended a collection that the daemon went on with after its command was killed")
            told = True
        time.sleep(POLL_S)


def _follow(client: ControlClient, parts: int, progress: Progress, clock: Callable[[], float]) -> None:
    """Poll the daemon until the last part is on disk."""
    last, changed = -1, clock()
    while True:
        status = client.request("status")
        state: dict[str, Any] = status.get("collect") or {}
        if state.get("error"):
            raise DeviceError(str(state["error"]))
        done = int(state.get("collected", 0))
        progress.update("collecting", done, parts)
        if state.get("done") or done >= parts:
            return
        if done != last:
            last, changed = done, clock()
        elif clock() - changed >= QUIET_S:
            cameras = {name: one.get("state") for name, one in status.get("cameras", {}).items()}
            progress.note(f"no part for {QUIET_S:.0f} s; cameras: {cameras}; Ctrl-C gives up")
            changed = clock()
        time.sleep(POLL_S)


def _directly(station: Station, parts: int, directory: Path, progress: Progress) -> None:
    """Through the same sources as the daemon's; a part with a faulty frame is not collected."""
    base = Path(station.path).parent if station.path else Path()
    names = [camera.name for camera in station.pictures]
    folders = [directory / name for name in names] if len(names) > 1 else [directory]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        sources = []
        for camera in station.camera:
            source = open_source(camera, base)
            source.open()
            stack.callback(source.close)
            sources.append((source, make_dealer(camera, source.live, station), len(camera.pictures)))
        done = faulty = 0
        while done < parts:
            read = [read_part(*source, int(station.join_ms * 1e6)) for source in sources]
            frames = [frame for pictures in read for frame in pictures or []]
            if any(pictures is None for pictures in read):
                progress.note(f"the source ended after {done} of {parts} parts")
                break
            keys = {frame.part_key for frame in frames}
            if station.join_by == "key" and len(keys) > 1:
                raise CaptureError(
                    f"the cameras show different parts ({', '.join(map(str, sorted(map(str, keys))))}); "
                    "start the daemon, which joins them by their keys, and collect again"
                )
            images = [_image(frame) for frame in frames]
            if any(image is None for image in images):
                faulty += 1
                continue
            for folder, image in zip(folders, images, strict=True):
                assert image is not None
                (folder / f"{done:06d}.png").write_bytes(encode_frame(image))
            done += 1
            progress.update("collecting", done, parts)
    lacking = sum(dealer.passed_over for _, dealer, _ in sources if dealer is not None)
    if lacking:
        progress.note(f"{lacking} parts that lacked a picture were not collected")
    if faulty:
        progress.note(f"{faulty} parts with unreadable frames were not collected")


def _image(frame: Frame) -> Any:
    return None if frame.fault else frame.image
