"""GigE Vision and USB3 Vision cameras through Aravis: `genicam://ID`, where ID is what `edge-ad camera
list` shows, an IP address, or nothing where there is one camera. Needs libaravis-0.8-0.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from ctypes import byref, c_int, c_size_t, c_uint8, string_at
from typing import Any

import numpy as np

from edge_ad.capture.aravis.features import AravisFeatures
from edge_ad.capture.aravis.library import BUFFER_SUCCESS, STATUS, aravis, checked
from edge_ad.capture.connection import BUSY, Picture
from edge_ad.capture.devices import Device
from edge_ad.capture.industrial import IndustrialSource, industrial_source
from edge_ad.capture.source import Clock, parse_uri
from edge_ad.config import Camera
from edge_ad.errors import CaptureError

_ASK_S = 1.0
_GONE = "the camera does not answer, or another program took it; check cable and power"
_listing = threading.Lock()


def aravis_source(camera: Camera, clock: Clock = time.monotonic_ns) -> IndustrialSource:
    """The camera of a `genicam://` URI, not yet opened."""
    name = parse_uri(camera, {}).path.strip("/")
    return industrial_source(camera, lambda: AravisCamera(name), clock)


def list_aravis() -> list[Device]:
    """The cameras that answer within a second; none where Aravis is not installed."""
    try:
        arv = aravis()
    except CaptureError:
        return []
    with _listing:
        arv.arv_update_device_list()
        return [
            Device(
                f"genicam://{_text(arv.arv_get_device_id(i))}",
                f"{_text(arv.arv_get_device_vendor(i))} {_text(arv.arv_get_device_model(i))} "
                f"{_text(arv.arv_get_device_serial_nbr(i))} at {_text(arv.arv_get_device_address(i))}",
            )
            for i in range(arv.arv_get_n_devices())
        ]


class AravisCamera:
    """As `capture.connection.Connection`."""

    tick_ns = 1.0  # Aravis converts to nanoseconds

    def __init__(self, name: str) -> None:
        """Connect. Raises CaptureError where there is no such camera, or it is taken."""
        self._arv = aravis()
        if not name and len(found := list_aravis()) > 1:
            have = ", ".join(device.uri for device in found)
            raise CaptureError(f"Aravis finds {len(found)} cameras; write one of {have}")
        self._lock = threading.Lock()  # over the stream, which buffers go back to
        self._stream: Any = None
        self._ask_at = 0.0
        self._camera = checked(self._arv.arv_camera_new, name.encode() or None)
        self._device = self._arv.arv_camera_get_device(self._camera)
        self._ethernet = bool(self._arv.arv_camera_is_gv_device(self._camera))
        if self._ethernet and not self._arv.arv_gv_device_is_controller(self._device):
            self._arv.g_object_unref(self._camera)
            raise CaptureError(BUSY)
        self.address = self._address() if self._ethernet else ""
        self.features = AravisFeatures(self._device)
        with suppress(CaptureError):  # one that sends still, to nobody, has its features locked
            checked(self._arv.arv_camera_stop_acquisition, self._camera)

    def _address(self) -> str:
        arv = self._arv
        held = arv.arv_gv_device_get_device_address(self._device)
        text = arv.g_inet_address_to_string(arv.g_inet_socket_address_get_address(held))
        address = string_at(text).decode()
        arv.g_free(text)
        return address

    def start(self, buffers: int, newest: int) -> None:
        """All frames are kept in the order of arrival; who reads them drops the older ones."""
        arv = self._arv
        size = checked(arv.arv_camera_get_payload, self._camera)
        self._stream = checked(arv.arv_camera_create_stream, self._camera, None, None)
        if not self._stream:
            raise CaptureError("the camera gives no stream; is another program reading it?")
        for _ in range(buffers):
            arv.arv_stream_push_buffer(self._stream, arv.arv_buffer_new_allocate(size))
        checked(arv.arv_camera_start_acquisition, self._camera)

    def pull(self, timeout_s: float) -> Picture | None:
        buffer = self._arv.arv_stream_timeout_pop_buffer(self._stream, int(timeout_s * 1e6))
        return self._picture(buffer) if buffer else None

    def _picture(self, buffer: int) -> Picture:
        arv = self._arv
        status, size = arv.arv_buffer_get_status(buffer), c_size_t()
        damaged = ""
        data = arv.arv_buffer_get_data(buffer, byref(size))
        if status != BUFFER_SUCCESS or not data:
            damaged = f"incomplete: {STATUS.get(status, f'Aravis status {status}')}"
        # What is asked of a damaged buffer's image may be out of its bounds.
        ask = (lambda function: 0) if damaged else (lambda function: function(buffer))
        pixels = None if damaged else (c_uint8 * size.value).from_address(data)
        width, height = ask(arv.arv_buffer_get_image_width), ask(arv.arv_buffer_get_image_height)
        return Picture(
            data=np.frombuffer(b"" if pixels is None else memoryview(pixels), np.uint8),
            width=width,
            height=height,
            stride=0 if damaged else self._stride(buffer, size.value, height),
            pfnc=ask(arv.arv_buffer_get_image_pixel_format),
            counter=self._frame_id(buffer, bool(damaged)),
            ticks=ask(arv.arv_buffer_get_timestamp) or None,
            skipped=0,
            damaged=damaged,
            give_back=lambda: self._give_back(buffer),
        )

    def _stride(self, buffer: int, size: int, height: int) -> int:
        """Bytes from row to row where the camera fills rows up, else 0."""
        padding = self._arv.arv_buffer_get_image_padding
        if padding is None:
            return 0
        right, below = c_int(), c_int()
        padding(buffer, byref(right), byref(below))
        return (size - below.value) // height if right.value and height else 0

    def _frame_id(self, buffer: int, damaged: bool) -> int | None:
        """None where it is not known: where a frame's leader was lost the buffer has an older one's."""
        if damaged and self._arv.arv_buffer_set_frame_id is None:
            return None
        return self._arv.arv_buffer_get_frame_id(buffer) or None

    def _give_back(self, buffer: int) -> None:
        if self._arv.arv_buffer_set_frame_id is not None:
            self._arv.arv_buffer_set_frame_id(buffer, 0)
        with self._lock:
            if self._stream:
                self._arv.arv_stream_push_buffer(self._stream, buffer)
            else:
                self._arv.g_object_unref(buffer)

    def trigger(self, timeout_s: float) -> None:
        checked(self._arv.arv_camera_software_trigger, self._camera)

    def problem(self) -> str:
        if self._ethernet:
            lost = not self._arv.arv_gv_device_is_controller(self._device)
        else:
            lost = not self._answers()
        return _GONE if lost else ""

    def _answers(self) -> bool:
        """Ask a camera without a heartbeat for something, once a second."""
        now = time.monotonic()
        if now < self._ask_at:
            return True
        self._ask_at = now + _ASK_S
        try:
            self.features.get("Width")
        except CaptureError:
            return False
        return True

    def close(self, answers: bool = True) -> None:
        camera, self._camera = self._camera, None
        if not camera:
            return
        if answers:  # else it would be asked in vain, for seconds
            with suppress(CaptureError):
                checked(self._arv.arv_camera_stop_acquisition, camera)
        with self._lock:
            stream, self._stream = self._stream, None
        if stream:
            self._arv.g_object_unref(stream)
        self._arv.g_object_unref(camera)


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode(errors="replace")
