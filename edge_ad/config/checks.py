"""What one key of a station file says of another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from edge_ad.config.genicam import FRAME_START, Genicam
from edge_ad.config.structs import LABEL_IMAGES, Camera, Station, Zone
from edge_ad.errors import ConfigError

_FRAME_TRIGGER = ("TriggerMode", "TriggerSource", "TriggerActivation", "TriggerSelector")


def check_references(station: Station, where: str) -> None:
    """What one key says of another: names are unique, views name cameras, joins are possible."""
    _check_shots(station, where)
    cameras = [c.name for c in station.pictures]
    named = (
        ("camera", [c.name for c in station.camera]),
        ("camera", cameras),
        ("view", [v.name for v in station.view]),
        ("zone", [z.name for z in station.zone]),
    )
    for kind, names in named:
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ConfigError(f"{where}: {kind} name {twice[0]!r} is used twice; names are unique")
    for i, view in enumerate(station.view):
        if view.camera not in cameras:
            raise ConfigError(f"{where}: view[{i}].camera: {_unnamed(view.camera, cameras)}")
    unseen = sorted(set(cameras) - {v.camera for v in station.views})
    if unseen:
        raise ConfigError(f"{where}: camera {unseen[0]!r} has no [[view]]; add one or remove it")
    for i, camera in enumerate(station.camera):
        if camera.locate is not None and camera.frame_size == "any":
            raise ConfigError(
                f"{where}: camera[{i}].locate: needs frames of one size; set frame_size = 'fixed'"
            )
        if camera.patch is not None and not camera.fixed_size:
            raise ConfigError(
                f"{where}: camera[{i}].patch: needs frames of one size; set frame_size = 'fixed'"
            )
        if camera.dark > camera.bright:
            raise ConfigError(
                f"{where}: camera[{i}].dark: {camera.dark} is above bright = {camera.bright}; give less"
            )
    if len(station.camera) > 1:
        for i, camera in enumerate(station.camera):
            if camera.overflow == "skip":
                raise ConfigError(
                    f"{where}: camera[{i}].overflow: 'skip' would pair frames of different parts; "
                    "with several cameras use 'wait'"
                )
    for i, camera in enumerate(station.camera):
        problem = genicam_problem(camera)
        if problem:
            raise ConfigError(f"{where}: camera[{i}].genicam{problem}")
    _check_engine(station, where)
    _check_trigger(station, where)
    if station.curve.clients and not station.curve.secret:
        raise ConfigError(
            f"{where}: curve.clients: needs the station's own key; set curve.secret ('edge-ad keys new "
            "station -o keys/' makes one)"
        )
    challenge = station.challenge
    if challenge.block and not (challenge.every_hours or challenge.at_start):
        raise ConfigError(
            f"{where}: challenge.block: a round is never due; set every_hours or at_start, or remove it"
        )
    if "REJECT" not in challenge.parts and (challenge.every_hours or challenge.at_start):
        raise ConfigError(
            f"{where}: challenge.parts: {list(challenge.parts)} proves nothing; add a REJECT, a part "
            "that is known to be bad"
        )
    if station.calibration.pca and station.calibration.npca:
        raise ConfigError(f"{where}: calibration.pca and calibration.npca exclude each other")
    for i, zone in enumerate(station.zone):
        problem = _zone_problem(zone, station.pictures)
        if problem:
            raise ConfigError(f"{where}: zone[{i}].{problem}")
    shares = math.fsum(zone.share for zone in station.zone)
    if shares >= 1:
        raise ConfigError(
            f"{where}: zone: the shares add up to {shares:g}; what is left to 1 is for the rest of the "
            "part, so give less"
        )


def genicam_problem(camera: Camera) -> str:
    """The key of [camera.genicam] that contradicts another, and how; "" when none does."""
    if camera.genicam is None:
        return ""
    if not camera.industrial and camera.genicam != Genicam():
        return f": belongs to basler:// and genicam://, not to {camera.uri!r}; remove it"
    for key, value in camera.genicam.features.items():
        name, _, selectors = key.partition("[")
        if name == "PixelFormat":
            return ".features: PixelFormat is set by the camera's pixel_format; remove it"
        if name in _FRAME_TRIGGER and selectors in ("", f"{FRAME_START}]"):
            return f".features: {key} is set by genicam.trigger and genicam.activation; remove it"
        if isinstance(value, float) and not math.isfinite(value):
            return f".features: {key} must be a finite number (found {value!r})"
    return ""


def _check_engine(station: Station, where: str) -> None:
    engine = station.engine
    if engine.precision != "f32" and engine.kind != "tensorrt":
        raise ConfigError(
            f"{where}: engine.precision: {engine.precision!r} is for kind 'tensorrt', {engine.kind!r} "
            "computes in 'f32'"
        )
    if engine.device and engine.kind != "torch":
        raise ConfigError(
            f"{where}: engine.device: belongs to kind 'torch', {engine.kind!r} has its own; remove it"
        )


def _check_trigger(station: Station, where: str) -> None:
    trigger, present = station.trigger, station.trigger.present
    if trigger.endpoint and trigger.kind != "message":
        raise ConfigError(f"{where}: trigger.endpoint: belongs to kind 'message'; remove it")
    if trigger.period_ms and trigger.kind != "software":
        raise ConfigError(f"{where}: trigger.period_ms: belongs to kind 'software'; remove it")
    if present is None:
        return
    if trigger.kind != "free":
        raise ConfigError(f"{where}: trigger.present: belongs to kind 'free'; remove it")
    if len(station.pictures) > 1:
        raise ConfigError(
            f"{where}: trigger.present: tells parts of one camera's single pictures; with several use "
            "kind 'message' or 'line'"
        )
    if present.camera != station.camera[0].name:
        raise ConfigError(
            f"{where}: trigger.present.camera: {_unnamed(present.camera, [station.camera[0].name])}"
        )


def _unnamed(name: str, cameras: Sequence[str]) -> str:
    shots = [camera for camera in cameras if camera.startswith(f"{name}.")]
    if shots:
        return f"camera {name!r} takes several pictures of a part; name one of {shots}"
    return f"no camera is named {name!r}; have {list(cameras)}"


def _check_shots(station: Station, where: str) -> None:
    for i, camera in enumerate(station.camera):
        twice = sorted({shot for shot in camera.shots if camera.shots.count(shot) > 1})
        if twice:
            raise ConfigError(
                f"{where}: camera[{i}].shots: {twice[0]!r} is named twice; names are unique"
            )
        locate = camera.locate
        if locate is None:
            continue
        if locate.shot and locate.shot not in camera.shots:
            raise ConfigError(
                f"{where}: camera[{i}].locate.shot: {locate.shot!r} is not among its shots "
                f"{list(camera.shots)}"
            )
        if camera.shots and locate.reference and not locate.shot:
            raise ConfigError(
                f"{where}: camera[{i}].locate.reference: shows one of the shots {list(camera.shots)}; "
                "name it with locate.shot"
            )


def _zone_problem(zone: Zone, cameras: tuple[Camera, ...]) -> str:
    """The key of a zone that contradicts another, and how; "" when none does."""
    sizes = {camera.name: camera.frame_size for camera in cameras}
    locates = {camera.name: camera.locate for camera in cameras}
    if zone.camera not in sizes:
        return f"camera: {_unnamed(zone.camera, list(sizes))}"
    if sizes[zone.camera] == "any":
        return f"camera: zones need frames of one size; set frame_size = 'fixed' of {zone.camera!r}"
    locate = locates[zone.camera]
    if locate is not None and not locate.reference:
        return (
            f"camera: zones are drawn on the part that others are laid like; set locate.reference of "
            f"{zone.camera!r} to that picture ('edge-ad camera grab' takes one)"
        )
    if bool(zone.polygon) == bool(zone.file):
        have = "both polygon and file" if zone.file else "neither polygon nor file"
        return f"polygon: zone {zone.name!r} has {have}; give one of them"
    for key in ("share", "min_area", "allow_area"):
        if not math.isfinite(getattr(zone, key)):
            return f"{key}: must be a finite number (found {getattr(zone, key)!r})"
    rules = [key for key in ("share", "min_area", "allow", "allow_area") if getattr(zone, key)]
    if zone.kind == "ignore" and rules:
        return f"{rules[0]}: zone {zone.name!r} is ignored, so it has no rules; remove it"
    if bool(zone.allow) != bool(zone.allow_area):
        return (
            f"allow: {zone.allow} findings of at most {zone.allow_area:g} allow nothing; give allow and "
            "allow_area together"
        )
    return _label_problem(zone)


def _label_problem(zone: Zone) -> str:
    """Whether the label is of the kind that the zone's file has."""
    if not zone.file:
        return "" if zone.label is None else "label: belongs to file; remove it beside a polygon"
    suffix = Path(zone.file).suffix.lower()
    if suffix != ".json" and suffix not in LABEL_IMAGES:
        return (
            f"file: expected a label image ({', '.join(LABEL_IMAGES)}) or the JSON of LabelMe or COCO "
            f"(.json) (found {zone.file!r})"
        )
    if suffix == ".json" and not isinstance(zone.label, str):
        return f"label: {zone.file} has names; give one, label = 'logo' (found {zone.label!r})"
    if suffix != ".json" and not isinstance(zone.label, int):
        return f"label: {zone.file} has grey values; give one, label = 3 (found {zone.label!r})"
    return ""
