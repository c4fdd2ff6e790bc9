"""What the station's kind of trigger asks of its cameras, and whether they can do it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from edge_ad.capture.source import AskedSource, Source, open_source
from edge_ad.config import Station

Found = tuple[Literal["ok", "warn", "fail"], str]


def check_trigger(station: Station) -> Found:
    """State and text. Raises ConfigError for a camera's URI that is wrong; opens none."""
    base = Path(station.path).parent if station.path else Path()
    sources = [open_source(camera, base) for camera in station.camera]
    kind = station.trigger.kind
    if kind == "free":
        return _free(station)
    if kind == "line":
        return _line(station, sources)
    return _announced(station, [s.name for s in sources if not isinstance(s, AskedSource)])


def _free(station: Station) -> Found:
    if station.trigger.present is not None:
        return "ok", "free: a part is the first frame that shows one (trigger.present)"
    return "ok", (
        "free: every frame is a part, so verdicts are advisory and nothing may act on them; set "
        "trigger.kind, or trigger.present, where a gate is to reject"
    )


def _line(station: Station, sources: list[Source]) -> Found:
    text = (
        f"line: every frame is a part, {station.trigger.queue} may wait; set each camera to its "
        "hardware trigger, and, of one that is not basler:// or genicam://, stale_ms to more than the "
        "longest pause of the line"
    )
    asked = [c.name for c in station.camera if c.genicam is not None and c.genicam.asked]
    if asked:
        return "fail", (
            f"{text}; {', '.join(asked)}: genicam.trigger = 'Software' takes pictures when the daemon "
            "asks, not when a part comes; name the input of the line's sensor, or use kind 'message'"
        )
    free = [c.name for c in station.camera if c.industrial and not (c.genicam and c.genicam.trigger)]
    if free:
        return "warn", (
            f"{text}; {', '.join(free)} runs free, so each of its frames is a part; set genicam.trigger "
            "to the input that the line's sensor is wired to"
        )
    blind = [source.name for source in sources if not getattr(source, "counts_triggers", False)]
    if blind:
        return "warn", (
            f"{text}; {', '.join(blind)}: the source does not know the camera's counter, so a frame "
            "that is lost on its way is not noticed here, and the gate must count parts by itself"
        )
    return "ok", text


def _announced(station: Station, not_asked: list[str]) -> Found:
    trigger = station.trigger
    what = f"{trigger.kind}: each trigger is a part, with a frame within {trigger.frame_ms:g} ms"
    if trigger.kind == "message":
        what += f", announced at {station.trigger_endpoint}"
    if not_asked and trigger.kind == "software":
        return "fail", (
            f"{what}; {', '.join(not_asked)} cannot be triggered by the daemon; use kind 'line' or "
            "'message' with the camera's hardware trigger, or 'free'; an industrial camera can with "
            "genicam.trigger = 'Software'"
        )
    if trigger.frame_ms >= station.deadline_ms:
        return "warn", (
            f"{what}, which is no less than deadline_ms = {station.deadline_ms:g}: a part that waits "
            "for its frame so long is late; lower trigger.frame_ms"
        )
    if not_asked:
        return "warn", (
            f"{what}; {', '.join(not_asked)} cannot be triggered by the daemon: the line must do it, by "
            f"the camera's hardware trigger, and parts be more than frame_ms + early_ms = "
            f"{trigger.frame_ms + trigger.early_ms:g} ms apart, or they are FAULT no_frame"
        )
    return "ok", what
