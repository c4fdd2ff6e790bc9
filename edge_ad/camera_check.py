"""Whether a camera does what the line needs of it: its settings, its network, its loss."""

from __future__ import annotations

import fcntl
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal

from edge_ad.capture.features import Features, automatic
from edge_ad.capture.industrial import IndustrialSource
from edge_ad.capture.leaving import let_go
from edge_ad.capture.opencv import V4L2_PARAMETERS
from edge_ad.capture.source import open_source, parse_uri, uri_scheme
from edge_ad.config import Camera

Found = tuple[Literal["ok", "warn", "fail"], str]

FRAMES = 100  # that loss is looked for in
_MOST_S = 20.0  # for these
_JUMBO = 9000  # an MTU from which on packets should be large
_SIOCGIFADDR = 0x8915
_RMEM = Path("/proc/sys/net/core/rmem_max")
_NET = Path("/sys/class/net")
_VIDIOC_G_CTRL = 0xC008561B
# Controls of linux/v4l2-controls.h as v4l2-ctl calls them, and where they alter nothing by themselves.
_V4L2 = {
    0x009A0901: ("auto_exposure", 1),
    0x00980912: ("gain_automatic", 0),
    0x0098090C: ("white_balance_automatic", 0),
    0x009A090C: ("focus_automatic_continuous", 0),
}
_GIGABIT, _SUPERSPEED = 1000, 5000  # Mbit/s that a camera on the network, and one on USB, is made for


def check_industrial(camera: Camera, base: Path, rmem: Path = _RMEM, net: Path = _NET) -> Found:
    """State and text, of a camera that nobody else has open. Raises CaptureError where it cannot be
    opened, or refuses what it is set to."""
    source = open_source(camera, base)
    assert isinstance(source, IndustrialSource)
    source.open()
    try:
        features = source.features()
        said, problems = [f"{features.get('PixelFormat')}, set and read back"], []
        if on := automatic(features):
            problems.append(f"{', '.join(on)} alters the picture from part to part; set it to 'Off'")
        interface = ""
        if source.address():
            interface, mtu = interface_to(source.address())
            said_of_net, wrong = _network(features, interface, mtu, rmem)
            said.append(said_of_net)
            problems += wrong
        wanted = _GIGABIT if source.address() else _SUPERSPEED
        if speed := link_speed(features, net / interface / "speed"):
            said.append(f"a link of {speed} Mbit/s")
            if speed < wanted:
                problems.append(
                    f"the link is slower than {wanted} Mbit/s; look at cable, port and switch"
                )
        if source.settings.trigger and not source.settings.asked:
            said.append(f"waits for {source.settings.trigger}, so loss was not looked for")
        else:
            text, lost = _loss(source)
            said.append(text)
            problems += lost
    finally:
        let_go(source)
    return ("warn" if problems else "ok"), "; ".join([*said, *problems])


def _loss(source: IndustrialSource) -> tuple[str, list[str]]:
    """Over FRAMES frames, or as many as come in time."""
    good, faults, end = 0, 0, time.monotonic() + _MOST_S
    while good + faults < FRAMES and time.monotonic() < end:
        frame = source.read()
        if frame is None:
            break
        good, faults = good + (not frame.fault), faults + bool(frame.fault)
    text = f"{good + faults} frames"
    if not faults and not source.lost:
        return f"{text}, none lost", []
    return text, [
        f"{source.lost} were lost and {faults} arrived incomplete; look at cable, switch and packet "
        "size, and do not share the link"
    ]


def automatic_v4l2(camera: Camera, ask: Callable[[int, int, bytes], bytes] = fcntl.ioctl) -> str:
    """What to do about a v4l2 camera's automatic functions; "" where none is on, and for another camera.
    Raises OSError."""
    if uri_scheme(camera) != "v4l2":
        return ""
    device, on = Path(parse_uri(camera, V4L2_PARAMETERS).path), []
    with device.open("rb", buffering=0) as file:
        for control, (name, off) in _V4L2.items():
            with suppress(OSError):  # it has no such control
                answer = ask(file.fileno(), _VIDIOC_G_CTRL, struct.pack("Ii", control, 0))
                if struct.unpack("Ii", answer)[1] != off:
                    on.append(f"{name}={off}")
    if not on:
        return ""
    return (
        "automatic functions alter the picture from part to part; switch them off at every start: "
        f"'v4l2-ctl -d {device} -c {','.join(on)}'"
    )


def link_speed(features: Features, of_interface: Path) -> int:
    """Mbit/s, the lower of what the camera and this machine's interface say; 0 where neither does."""
    found = []
    for name, unit in (("DeviceLinkSpeed", 8e-6), ("GevLinkSpeed", 1.0)):
        if features.has(name):
            value = features.get(name)
            found += [round(value * unit)] if isinstance(value, (int, float)) else []
    if features.has("BslUSBSpeedMode"):
        found.append(_SUPERSPEED if features.get("BslUSBSpeedMode") == "SuperSpeed" else 480)
    with suppress(OSError, ValueError):  # a virtual interface has none
        found.append(int(of_interface.read_text()))
    return min((speed for speed in found if speed > 0), default=0)


def _network(features: Features, name: str, mtu: int, rmem: Path) -> tuple[str, list[str]]:
    """Packet size by the interface's MTU, and whether the kernel may hold a frame of packets."""
    problems = []
    packet = features.get("GevSCPSPacketSize") if features.has("GevSCPSPacketSize") else None
    text = f"packets of {packet} bytes over {name or 'an unknown interface'} with an MTU of {mtu}"
    if isinstance(packet, int) and mtu:
        if packet > mtu:
            problems.append(f"packets are larger than the MTU; set GevSCPSPacketSize to {mtu} at most")
        elif packet <= 1500 and mtu >= _JUMBO:
            problems.append(
                "packets could be larger; set GevSCPSPacketSize = 8192, if the switch can too"
            )
    payload = features.get("PayloadSize") if features.has("PayloadSize") else 0
    limit = int(rmem.read_text())
    if isinstance(payload, int) and limit < 2 * payload:
        problems.append(
            f"the kernel may hold {limit / 1e6:.1f} MB for a socket, a frame is {payload / 1e6:.1f} MB; "
            f"'sysctl -w net.core.rmem_max={max(33_554_432, 4 * payload)}', and in /etc/sysctl.d"
        )
    return text, problems


def interface_to(address: str) -> tuple[str, int]:
    """The network interface by which an address is reached, and its MTU; "", 0 where it is not known."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))  # nothing is sent
            own = probe.getsockname()[0]
        except OSError:
            return "", 0
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:
                continue  # without an address
            if socket.inet_ntoa(answer[20:24]) == own:
                return name, int(Path(f"/sys/class/net/{name}/mtu").read_text())
    return "", 0
