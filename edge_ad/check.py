"""What would fail in production, found before it does: one finding per thing, each with its remedy."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from edge_ad.config import MOST_SIDE, Camera, Station, View
from edge_ad.errors import EdgeAdError
from edge_ad.trigger_check import check_trigger

LOW_DISK_BYTES = 2_000_000_000
EPOCH_2024_S = 1_704_067_200


class Finding(msgspec.Struct, frozen=True):
    """One line of the result. `text` says what is so; for warn and fail it ends with the remedy."""

    name: str
    state: Literal["ok", "warn", "fail"]
    text: str


Check = Callable[[], Finding]


def check_station(station: Station, wall_s: Callable[[], float] = time.time) -> Iterator[Finding]:
    """Try everything that the daemon of this station needs, one finding after the other. The station
    file itself has been read by then. Nothing is changed; a running daemon is asked, not disturbed.
    """
    yield Finding("config", "ok", f"{station.path or 'configuration'}: schema {station.schema}, valid")
    status = _daemon(station)
    yield _daemon_finding(station, status)
    shapes: dict[str, tuple[int, ...]] = {}
    for camera in station.camera:
        yield _guard(f"camera {camera.name}", lambda c=camera: _camera(station, c, status, shapes))  # type: ignore[misc]
        if camera.industrial and status is None:
            yield _guard(f"camera {camera.name}", lambda c=camera: _industrial(station, c))  # type: ignore[misc]
    for view in station.views:
        yield _guard(f"view {view.name}", lambda v=view: _view(station, v, shapes))  # type: ignore[misc]
    for name in dict.fromkeys(zone.camera for zone in station.zone):
        yield _guard(f"zones {name}", lambda n=name: _zones(station, n, shapes))  # type: ignore[misc]
    yield _guard("trigger", lambda: Finding("trigger", *check_trigger(station)))
    yield _guard("backbone", lambda: _backbone(station))
    yield _guard("engine", lambda: _engine(station))
    yield _guard("bundle", lambda: _bundle(station))
    if station.engine.fallback and station.engine.kind != "openvino":
        yield _guard("fallback", lambda: _fallback(station))
    yield _guard("access", lambda: _access(station))
    yield _guard("disk", lambda: _disk(station))
    if station.verdicts.consumers:
        yield _guard("verdicts", lambda: _verdicts(station, status))
    yield _guard("scores port", lambda: _scores_port(station, status))
    yield _guard("metrics port", lambda: _metrics_port(station, status))
    yield _clock(wall_s())


def _guard(name: str, check: Check) -> Finding:
    """A check's own finding, or the error that it raised."""
    try:
        return check()
    except (EdgeAdError, OSError) as error:
        return Finding(name, "fail", str(error))


def _daemon(station: Station) -> dict[str, Any] | None:
    """The running daemon's status, {} when it runs but does not answer, None when none runs."""
    from edge_ad.delivery.access import open_control
    from edge_ad.delivery.lock import running_pid

    if running_pid(station.state_path) is None:
        return None
    try:
        with open_control(station, timeout_s=2.0) as client:
            return client.request("status")
    except EdgeAdError:
        return {}


def _daemon_finding(station: Station, status: dict[str, Any] | None) -> Finding:
    if status is None:
        return Finding("daemon", "ok", "not running; what it needs is tried here")
    if not status:
        return Finding(
            "daemon",
            "fail",
            f"holds {station.state_path} but does not answer at {station.control_endpoint}; restart it",
        )
    if status.get("stolen"):
        return Finding(
            "daemon",
            "fail",
            f"pid {status['pid']}: the files of its sockets {status['stolen']} were removed or replaced "
            "by another program; stop that one and restart the daemon",
        )
    return Finding(
        "daemon", "ok", f"pid {status['pid']}, {status['state']}, product {status['product']}"
    )


def _camera(
    station: Station,
    camera: Camera,
    status: dict[str, Any] | None,
    shapes: dict[str, tuple[int, ...]],
) -> Finding:
    """Also notes the shape of the camera's frames, where one is grabbed."""
    from edge_ad.camera_check import automatic_v4l2
    from edge_ad.capture.grab import grab

    name = f"camera {camera.name}"
    known = (status or {}).get("cameras", {}).get(camera.name)
    if known is not None:
        text = f"{known['state']} in the running daemon, last frame {known['age_s']:.1f} s ago"
        if known["state"] in ("up", "ended"):
            return Finding(name, "ok", text)
        return Finding(name, "fail", f"{text}; check cable and power")
    base = Path(station.path).parent if station.path else Path()
    if camera.genicam is not None and camera.genicam.trigger and not camera.genicam.asked:
        text = f"waits for {camera.genicam.trigger}; 'edge-ad camera grab' shows a part that comes by"
        return Finding(name, "ok", text)
    image, rule = grab(camera, base, join_ms=station.join_ms)
    shapes.update({picture.name: image.shape for picture in camera.pictures})
    text = f"one frame of {image.shape[1]} x {image.shape[0]}, pixel rule {rule}"
    low, high = int(image.min()), int(image.max())
    if high - low < 16:
        return Finding(
            name,
            "warn",
            f"{text}, but it is blank (grey {low} to {high}); check light, lens cap, exposure",
        )
    on = automatic_v4l2(camera)
    return Finding(name, "warn", f"{text}; {on}") if on else Finding(name, "ok", text)


def _industrial(station: Station, camera: Camera) -> Finding:
    from edge_ad.camera_check import check_industrial

    base = Path(station.path).parent if station.path else Path()
    return Finding(f"camera {camera.name}", *check_industrial(camera, base))


def _view(station: Station, view: View, shapes: dict[str, tuple[int, ...]]) -> Finding:
    """Whether the view's tiles fit, how finely the network sees them, and what would be enough."""
    from edge_ad.backbone.spec import load_backbone
    from edge_ad.calibrate.plan import MOST_TILES, check_views
    from edge_ad.locate.regions import within_reach
    from edge_ad.preprocess.views import view_region, view_text

    name = f"view {view.name}"
    check_views(station)
    shape = shapes.get(view.camera) or _calibrated_shape(station, view.camera)
    if shape is None:
        return Finding(
            name, "ok", f"how finely it is seen is known once camera {view.camera!r} gives a frame"
        )
    backbone = load_backbone(station.backbone_path, verify=False)
    (view,) = within_reach([view], {c.name: c.locate for c in station.pictures}, {view.camera: shape})
    text = view_text(view, shape, backbone.height, backbone.width)
    _, _, width, height = view_region(view, shape)
    rows, columns = -(-height // backbone.height), -(-width // backbone.width)
    if view.tiles[0] < rows or view.tiles[1] < columns:
        enough = rows * columns <= MOST_TILES and max(rows, columns) <= MOST_SIDE
        text += f"; tiles = [{rows}, {columns}] would show every camera pixel" if enough else ""
    return Finding(name, "ok", text)


def _zones(station: Station, camera: str, shapes: dict[str, tuple[int, ...]]) -> Finding:
    """Whether the zones of a camera fit into its frame, and how much of it each one is."""
    import numpy as np

    from edge_ad.zones import label_images

    name = f"zones {camera}"
    shape = shapes.get(camera) or _calibrated_shape(station, camera)
    if shape is None:
        return Finding(name, "ok", f"they are read once camera {camera!r} gives a frame")
    base = Path(station.path).parent if station.path else Path()
    labels = label_images(station.zone, base, {camera: shape}, station.path)[camera]
    own = [zone for zone in station.zone if zone.camera == camera]
    counts = np.bincount(labels.reshape(-1), minlength=len(own) + 1)[1:].tolist()
    texts = [
        f"{zone.name} {100 * count / labels.size:.3g} %{' (ignored)' * (zone.kind == 'ignore')}"
        for zone, count in zip(own, counts, strict=True)
    ]
    return Finding(name, "ok", f"of {shape[1]} x {shape[0]} px: {', '.join(texts)}")


def _calibrated_shape(station: Station, camera: str) -> tuple[int, ...] | None:
    """Of a camera's frames by the bundle in use, for one that the daemon holds."""
    from edge_ad.bundle import current_path, read_manifest

    path = current_path(station.state_path, station.product)
    if path is None:
        return None
    rule = read_manifest(path).preprocess.cameras.get(camera)
    return (rule.height, rule.width) if rule is not None and rule.frame_size == "fixed" else None


def _backbone(station: Station) -> Finding:
    from edge_ad.backbone.spec import load_backbone
    from edge_ad.calibrate.plan import choose_levels, choose_local

    backbone = load_backbone(station.backbone_path)
    choose_levels(station, backbone)
    choose_local(station, backbone)
    return Finding(
        "backbone",
        "ok",
        f"{backbone.name}, {len(backbone.levels)} levels, input {backbone.width} x {backbone.height}, "
        f"sha256 {backbone.sha256[:12]}",
    )


def _engine(station: Station) -> Finding:
    from edge_ad.backbone.spec import load_backbone
    from edge_ad.calibrate.plan import choose_local
    from edge_ad.engines import chosen_engine, open_features
    from edge_ad.preprocess.views import count_tiles

    backbone = load_backbone(station.backbone_path, verify=False)
    local = choose_local(station, backbone)
    tiles, dim = count_tiles(station.views), local.dim if local is not None else 0
    engine = open_features(chosen_engine(station), backbone, tiles, local is not None, dim)
    try:
        engine.infer()
        start = time.perf_counter()
        for _ in range(5):
            engine.infer()
        each_ms = (time.perf_counter() - start) / 5 * 1000
    finally:
        engine.close()
    identity = engine.identity
    text = f"{identity.kind} {identity.runtime}, {identity.device}, {each_ms:.1f} ms per part"
    if each_ms > 0.5 * station.deadline_ms:
        return Finding(
            "engine",
            "warn",
            f"{text}, more than half of deadline_ms = {station.deadline_ms:g}; use a smaller backbone",
        )
    return Finding("engine", "ok", text)


def _bundle(station: Station) -> Finding:
    from edge_ad.bundle import current_path
    from edge_ad.bundle.describe import detection_text
    from edge_ad.daemon.loading import build_inspector
    from edge_ad.gaussian.threshold import promise_text

    if current_path(station.state_path, station.product) is None:
        return Finding(
            "bundle",
            "warn",
            f"product {station.product!r}: none yet, so no part can pass; run 'edge-ad calibrate'",
        )
    inspector = build_inspector(station)
    assert inspector is not None
    try:
        bundle, key = inspector.bundle, inspector.identity.key
    finally:
        inspector.close()
    detection = detection_text(bundle.detection, key)
    text = f"{bundle.manifest.id}, {key}, {promise_text(bundle.section(key).promise)}; {detection}"
    if key not in bundle.detection.engines:
        remedy = "" if bundle.detection.problem else ": run 'edge-ad qualify' with known-bad parts"
        return Finding("bundle", "warn", text + remedy)
    return Finding("bundle", "ok", text)


def _fallback(station: Station) -> Finding:
    """Whether the engine that takes over where the station's fails would be in time."""
    from edge_ad.bundle import current_path, open_bundle
    from edge_ad.daemon.fallback import slowest_ms
    from edge_ad.engines import reference_engine
    from edge_ad.inspector import open_inspector

    choice, path = reference_engine(station), current_path(station.state_path, station.product)
    assert choice is not None
    if path is None:
        return Finding("fallback", "ok", f"{choice.key} will be calibrated with the station's engine")
    inspector = open_inspector(open_bundle(path), choice, time.perf_counter_ns)
    try:
        slow_ms = slowest_ms(inspector)
    finally:
        inspector.close()
    text = f"{choice.key} would judge 99 % of parts within {slow_ms:.1f} ms"
    if slow_ms > station.deadline_ms:
        return Finding(
            "fallback",
            "warn",
            f"{text}, later than deadline_ms = {station.deadline_ms:g}: it cannot take the place of a "
            "GPU that fails; allow more, or take a smaller backbone",
        )
    return Finding("fallback", "ok", text)


def _access(station: Station) -> Finding:
    from edge_ad.delivery.access import describe_access

    return Finding("access", "ok", describe_access(station))


def _disk(station: Station) -> Finding:
    path = station.state_path
    while not path.exists():
        path = path.parent
    if not os.access(path, os.W_OK):
        return Finding("disk", "fail", f"{path} is not writable; give another state_dir or its rights")
    free = shutil.disk_usage(path).free
    text = f"{free / 1e9:.1f} GB free for {station.state_path}"
    if free < LOW_DISK_BYTES:
        return Finding("disk", "warn", f"{text}, less than {LOW_DISK_BYTES / 1e9:g}; free some space")
    return Finding("disk", "ok", text)


def _verdicts(station: Station, status: dict[str, Any] | None) -> Finding:
    """Who consumes verdicts and what waits for them; or whether an outbox could be kept, and how
    quickly: on one of its own, which is removed again."""
    if status:
        known = status.get("verdicts", {}).get("consumers", {})
        text = ", ".join(f"{n} {c['state']}, {c['depth']} verdicts wait" for n, c in known.items())
        away = [name for name, consumer in known.items() if consumer["state"] != "up"]
        if away:
            return Finding("verdicts", "warn", f"{text}; start {away[0]}: its gate rejects everything")
        return Finding("verdicts", "ok", text)
    from edge_ad.delivery.outbox import Outbox
    from edge_ad.delivery.outbox_file import check_file
    from edge_ad.delivery.verdicts import slowness

    check_file(station.state_path / "outbox.db")
    below = station.state_path
    while not below.exists():
        below = below.parent
    try:
        with tempfile.TemporaryDirectory(dir=below, prefix=".outbox-check-") as own:
            path = Path(own) / "outbox.db"
            outbox = Outbox(path, "check", (), time.monotonic_ns, time.time_ns)
            outbox.close()
    except OSError as error:
        return Finding("verdicts", "fail", f"{below}: {error.strerror}; make it writable, free space")
    slow = slowness(outbox.times.full_worst, station.deadline_ms)
    return Finding("verdicts", "warn" if slow else "ok", f"{outbox.times.text()}{slow}")


def _scores_port(station: Station, status: dict[str, Any] | None) -> Finding:
    endpoint = station.scores.endpoint
    if status:
        return Finding("scores port", "ok", f"{status['scores']}, bound by the running daemon")
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    if not endpoint.startswith("tcp://") or not port.isdigit():
        return Finding("scores port", "ok", f"{endpoint}, not a TCP port")
    return _port("scores port", "scores.endpoint", host, int(port))


def _metrics_port(station: Station, status: dict[str, Any] | None) -> Finding:
    if status:
        return Finding("metrics port", "ok", f"{status['metrics']}, bound by the running daemon")
    return _port("metrics port", "metrics.port", station.metrics.host, station.metrics.port)


def _port(name: str, key: str, host: str, port: int) -> Finding:
    """Whether a TCP port can be bound: by trying it for a moment."""
    host = host.strip("[]").replace("*", "0.0.0.0")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            used = error.errno == errno.EADDRINUSE
            why = (
                "is in use by another program; stop it"
                if used
                else f"cannot be bound ({error.strerror})"
            )
            return Finding(name, "fail", f"{host}:{port} {why}, or set another {key}")
    return Finding(name, "ok", f"{host}:{port} is free" if port else "a free one will be taken")


def _clock(now_s: float) -> Finding:
    """Verdicts do not depend on the wall clock, but their labels and the bundles' names do."""
    text = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now_s))
    if now_s < EPOCH_2024_S:
        return Finding("clock", "warn", f"{text} cannot be right; set the clock, or install chrony")
    synced = Path("/run/systemd/timesync/synchronized").exists() or shutil.which("chronyc") is not None
    note = "" if synced else " (no time synchronisation was found; chrony keeps it right)"
    return Finding("clock", "ok", f"{text}{note}")
