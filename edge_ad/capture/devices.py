"""The cameras that the kernel knows."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

# What the kernel calls a sensor on a Jetson's CSI lanes. Its node gives the raw mosaic; pictures come
# out of the image processor.
_CSI = "vi-output, "
_ARGUS = "gst://nvarguscamerasrc sensor-id={} ! nvvidconv ! video/x-raw,format=BGRx"


@dataclass(frozen=True, slots=True)
class Device:
    """A camera of this machine: the URI to configure, its name, and what keeps it from being used."""

    uri: str
    name: str
    note: str = ""


def list_devices(
    sys_root: Path = Path("/sys/class/video4linux"), dev_root: Path = Path("/dev")
) -> list[Device]:
    """Every v4l2 capture device. The URI is by serial number where udev knows it, so that it survives
    another order of plugging in. A Jetson's CSI sensors are numbered as their nodes are."""
    stable = {link.resolve(): link for link in sorted((dev_root / "v4l" / "by-id").glob("*"))}
    found, sensors = [], 0
    for entry in sorted(sys_root.glob("video*"), key=lambda p: (len(p.name), p.name)):
        if _read(entry / "index") not in ("", "0"):
            continue  # a camera's metadata node, not a picture
        node = dev_root / entry.name
        note = ""
        if not node.exists():
            note = f"{node} is missing"
        elif not os.access(node, os.R_OK | os.W_OK):
            note = "no permission; add this user to the group 'video'"
        name = _read(entry / "name") or entry.name
        if name.startswith(_CSI):
            found.append(Device(_ARGUS.format(sensors), name, note))
            sensors += 1
            continue
        path = stable.get(node.resolve(), node)
        found.append(Device(f"v4l2://{path}", name, note))
    return found


def list_industrial() -> list[Device]:
    """The cameras that pylon and Aravis find, as far as they are installed; a Basler on the network may
    be found by both. Takes a second."""
    from edge_ad.capture.aravis.camera import list_aravis
    from edge_ad.capture.basler import list_basler

    return list_basler() + list_aravis()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
