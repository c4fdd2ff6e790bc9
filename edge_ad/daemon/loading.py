"""From a configuration to a warm inspector, and what a running daemon takes over from a new one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import msgspec
import numpy as np

from edge_ad.backbone.spec import load_backbone
from edge_ad.bundle import Bundle, CameraRule, ZoneRule, current_path, open_bundle
from edge_ad.bundle.zones import read_label_images
from edge_ad.config import Locate, Station, View
from edge_ad.daemon.fallback import stand_in
from edge_ad.engines import REFERENCE, chosen_engine
from edge_ad.errors import ArtifactError, ConfigError, DeviceError
from edge_ad.inspector import Inspector, open_inspector
from edge_ad.locate.regions import within_reach
from edge_ad.preprocess.views import ViewGeometry
from edge_ad.redact import redact

if TYPE_CHECKING:
    from edge_ad.daemon.active import PartInspector

Build = Callable[[Station], "PartInspector | None"]

# Bound to sockets, threads, histograms and the epoch; everything else is taken over by a reload.
FIXED_KEYS = (
    "station", "state_dir", "deadline_ms", "join_by", "camera", "trigger", "verdicts", "scores",
    "control", "curve", "group", "metrics",
)  # fmt: skip


def build_inspector(station: Station) -> PartInspector | None:
    """The product's active bundle, compiled and warmed up; None when there is none yet.

    Where the engine fails, that of the fallback. Raises ArtifactError when the bundle is refused or made
    for other cameras, views or another backbone, DeviceError when no engine serves.
    """
    bundle = _bundle(station)
    if bundle is None:
        return None
    try:
        return _without_tensors(_warm(bundle, station), bundle)
    except DeviceError as error:
        return _without_tensors(stand_in(bundle, station, error), bundle)


def open_stand_in(station: Station, error: DeviceError) -> PartInspector | None:
    """What takes the place of the station's engine, which failed with `error`; see `stand_in`."""
    bundle = _bundle(station)
    return None if bundle is None else _without_tensors(stand_in(bundle, station, error), bundle)


def _bundle(station: Station) -> Bundle | None:
    path = current_path(station.state_path, station.product)
    if path is None:
        return None
    bundle = open_bundle(path)
    check_fits(bundle, station)
    return bundle


def _without_tensors(inspector: Inspector, bundle: Bundle) -> Inspector:
    """The engine has its own copy."""
    inspector.bundle = replace(bundle, tensors={})
    return inspector


def _warm(bundle: Bundle, station: Station) -> Inspector:
    """By the station's own engine."""
    inspector = open_inspector(bundle, chosen_engine(station), time.perf_counter_ns)
    try:
        inspector.warm_up(rounds=1)
    except DeviceError:
        inspector.close()
        raise
    return inspector


def early_build(station: Station) -> Build:
    """A `build` whose first inspector begins to be made now, in a thread, while more is imported."""
    executor = ThreadPoolExecutor(1, "build")
    futures = [executor.submit(build_inspector, station)]
    executor.shutdown(wait=False)

    def build(wanted: Station) -> PartInspector | None:
        return futures.pop().result() if futures else build_inspector(wanted)

    return build


def check_fits(bundle: Bundle, station: Station) -> None:
    """Raise ArtifactError unless the bundle was made for these cameras, views and this backbone."""
    manifest = bundle.manifest
    where = station.path or "the station"
    # Without the directory there is nothing to contradict the copy that came with the bundle.
    if station.engine.backbone and station.backbone_path.is_dir():
        wanted = load_backbone(station.backbone_path, verify=False)
        if wanted.sha256 != manifest.backbone.sha256:
            raise ArtifactError(
                f"{bundle.path}: was made with backbone {manifest.backbone.name} "
                f"{manifest.backbone.sha256[:12]}, {where} names {wanted.name} {wanted.sha256[:12]}; "
                "run 'edge-ad calibrate --refit' or restore engine.backbone"
            )
    pairs = [
        ("cameras", sorted(manifest.preprocess.cameras), sorted(c.name for c in station.pictures)),
        ("locate", *_locate(manifest.preprocess.cameras, station)),
        ("views", _views(manifest.views), _views(_regions(manifest.preprocess.cameras, station))),
    ]
    for what, have, want in pairs:
        if have != want:
            raise ArtifactError(
                f"{bundle.path}: was made for {what} {have}, {where} has {want}; "
                "calibrate again or restore the station file"
            )
    for source in station.camera:
        if not source.in_order(manifest.preprocess.cameras):
            raise ArtifactError(
                f"{bundle.path}: was made for the pictures {list(manifest.preprocess.cameras)} in this "
                f"order, {where} has shots {list(source.shots)} of {source.name!r}; calibrate again or "
                "restore the station file"
            )
    for camera in station.pictures:
        have_mm = manifest.preprocess.cameras[camera.name].px_per_mm
        if have_mm != camera.px_per_mm:
            raise ArtifactError(
                f"{bundle.path}: was made with px_per_mm = {have_mm:g} of camera {camera.name!r}, "
                f"{where} has {camera.px_per_mm:g}; 'edge-ad calibrate --refit'"
            )
    _check_references(bundle, station, where)
    _check_zones(bundle, station, where)


def check_candidate(path: Path, station: Station) -> None:
    """Raise ArtifactError unless this bundle can judge beside the one in use: its CPU engine does, which
    takes nothing from the station's own."""
    bundle = open_bundle(path)
    check_fits(bundle, station)
    if REFERENCE.key not in bundle.manifest.engines:
        raise ArtifactError(
            f"{path}: has no section {REFERENCE.key!r} to judge by beside the one in use; 'edge-ad "
            "calibrate --refit' fits one unless engine.fallback is false"
        )


def _regions(rules: Mapping[str, CameraRule], station: Station) -> list[View]:
    """The station's views with the regions that those without a roi have in such frames."""
    shapes = {name: (rule.height, rule.width) for name, rule in rules.items()}
    return within_reach(station.views, {c.name: c.locate for c in station.pictures}, shapes)


def _check_references(bundle: Bundle, station: Station, where: str) -> None:
    """Raise ArtifactError unless parts are laid like the one that the station file shows."""
    for camera in station.pictures:
        rule = bundle.manifest.preprocess.cameras[camera.name].locate
        if rule is None or camera.locate is None or not camera.locate.reference:
            continue
        path = station.resolve(camera.locate.reference)
        have = cv2.imread(str(bundle.path / rule.reference), cv2.IMREAD_UNCHANGED)
        want = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if have is None or want is None or not np.array_equal(have, want):
            raise ArtifactError(
                f"{bundle.path}: parts of camera {camera.name!r} are laid like another one than "
                f"locate.reference {path} in {where} shows; 'edge-ad calibrate --refit' or restore it"
            )


def _locate(
    rules: Mapping[str, CameraRule], station: Station
) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    """How parts are found, by the bundle and by the station; a box that was worked out is no setting,
    and what the reference shows is compared apart."""
    have: list[tuple[object, ...]] = []
    want: list[tuple[object, ...]] = []
    for camera in station.pictures:
        rule, asked = rules[camera.name].locate if camera.name in rules else None, camera.locate
        keys = [key for key in Locate.__struct_fields__ if key not in ("box", "reference")]
        keys += ["box"] if asked and asked.box else []
        for found, values in ((have, rule), (want, asked)):
            if values is not None:
                found.append((camera.name, *((key, getattr(values, key)) for key in keys)))
    return have, want


def _check_zones(bundle: Bundle, station: Station, where: str) -> None:
    """Raise ArtifactError unless the station draws the bundle's zones. Files that they come from are
    read again: a picture may have been painted over."""
    manifest = bundle.manifest
    keys = [key for key in ZoneRule.__struct_fields__ if key != "value"]
    have, want = (
        [tuple(getattr(zone, key) for key in keys) for zone in zones]
        for zones in (manifest.zones, station.zone)
    )
    if have != want:
        raise ArtifactError(
            f"{bundle.path}: was made for zones {[one[0] for one in have]}, {where} has "
            f"{[one[0] for one in want]} or other settings of them; 'edge-ad calibrate --refit'"
        )
    if not want:
        return
    from edge_ad.zones import label_images

    old = read_label_images(bundle)
    shapes = {camera: image.shape for camera, image in old.items()}
    for camera, image in label_images(station.zone, station.resolve("."), shapes).items():
        if not np.array_equal(image, old[camera]):
            raise ArtifactError(
                f"{bundle.path}: zones of camera {camera!r} are drawn otherwise in {where}; 'edge-ad "
                "calibrate --refit'"
            )


def check_reloadable(old: Station, new: Station) -> None:
    """Raise ConfigError when the new file changes a key that only a restart can change."""
    changed = [key for key in FIXED_KEYS if getattr(old, key) != getattr(new, key)]
    if changed:
        raise ConfigError(
            f"{new.path}: {', '.join(changed)} changed, which needs a restart; the old one stays in use"
        )


def changed_keys(old: Station, new: Station) -> dict[str, str]:
    """The station file's keys of which the values differ, and how: "old -> new", without passwords."""
    before, after = (_flat(msgspec.to_builtins(one)) for one in (old, new))
    keys = sorted(set(before) | set(after))
    shown = {key: (before.get(key), after.get(key)) for key in keys if key not in ("path", "product")}
    return {key: redact(f"{was} -> {now}") for key, (was, now) in shown.items() if was != now}


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Tables and lists of tables as dotted keys."""
    if isinstance(value, dict):
        items = [(f"{name}.{key}" if name else str(key), one) for key, one in value.items()]
    elif isinstance(value, (list, tuple)) and any(isinstance(one, dict) for one in value):
        items = [(f"{name}[{place}]", one) for place, one in enumerate(value)]
    else:
        return {name: value}
    return {key: found for below, one in items for key, found in _flat(one, below).items()}


def _views(views: Sequence[ViewGeometry]) -> list[tuple[object, ...]]:
    return sorted((v.name, v.camera, v.roi, v.tiles, v.overlap) for v in views)
