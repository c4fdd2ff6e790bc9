"""A frame in GStreamer's memory, and where its pixels lie."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import byref, c_int
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_ad.capture.gst import library
from edge_ad.errors import CaptureError

_CORRUPTED, _GAP = 1 << 8, 1 << 11  # flags of a buffer

# format -> sample, channels; all of them have one plane
_LAYOUTS = {
    "GRAY8": ("<u1", 1), "GRAY16_LE": ("<u2", 1), "BGR": ("<u1", 3), "RGB": ("<u1", 3),
    "YUY2": ("<u1", 2), "UYVY": ("<u1", 2),
    "rggb": ("<u1", 1), "grbg": ("<u1", 1), "gbrg": ("<u1", 1), "bggr": ("<u1", 1),
}  # fmt: skip


class FrameFormat(NamedTuple):
    """What the caps say of a frame: the name of its pixel format, its size in pixels."""

    pixels: str
    width: int
    height: int


class Sample:
    """Owns one reference to a sample. Its memory belongs to the pipeline's pool, so that it must be
    released soon. Used by one thread at a time."""

    __slots__ = ("_buffer", "_gst", "_handle")

    def __init__(self, gst: SimpleNamespace, handle: int) -> None:
        """Takes the reference over."""
        self._gst = gst
        self._handle: int | None = handle
        self._buffer = gst.gst_sample_get_buffer(handle)

    def release(self) -> None:
        """Give the memory back; may be repeated."""
        if self._handle is not None:
            self._gst.gst_mini_object_unref(self._handle)
            self._handle = None

    @property
    def pts_ns(self) -> int | None:
        """When it was taken by the pipeline's clock, since the start; None where nothing says so."""
        pts = int(self._buffer.contents.pts)
        return None if pts == library.NONE else pts

    @property
    def number(self) -> int | None:
        """The source's own count of frames, with gaps where it lost some; None where it has none."""
        buffer = self._buffer.contents
        # Byte streams use the same field: there it grows by more than one.
        if buffer.offset == library.NONE or buffer.offset_end != buffer.offset + 1:
            return None
        return int(buffer.offset)

    @property
    def damaged(self) -> str:
        """What is wrong with it by its own account, "" for nothing."""
        flags = self._buffer.contents.mini_object.flags
        if flags & _CORRUPTED:
            return "the driver marked the frame as corrupted"
        return "a filler, no frame, where the stream has a gap" if flags & _GAP else ""

    def format(self) -> FrameFormat:
        """Raises CaptureError where the pipeline ends in something that is no picture."""
        caps = self._gst.gst_sample_get_caps(self._handle)
        structure = self._gst.gst_caps_get_structure(caps, 0) if caps else None
        if not structure:
            raise CaptureError("the frames have no caps; name them in the pipeline")
        pixels = (self._gst.gst_structure_get_string(structure, b"format") or b"").decode()
        width, height = c_int(), c_int()
        sized = self._gst.gst_structure_get_int(structure, b"width", byref(width))
        if not (sized and self._gst.gst_structure_get_int(structure, b"height", byref(height))):
            name = self._gst.gst_structure_get_name(structure).decode()
            raise CaptureError(f"{name} frames without a size; name width and height in the pipeline")
        return FrameFormat(pixels, width.value, height.value)

    @contextmanager
    def pixels(self) -> Iterator[NDArray[Any]]:
        """height x width [x channels] of uint8 or uint16 in the pipeline's own memory: read only, and
        only inside of the `with`. Rows may be padded. Raises CaptureError when the buffer is too small
        for what its caps say, or out of the CPU's reach."""
        form = self.format()
        info = library.MapInfo()
        if not self._gst.gst_buffer_map(self._buffer, byref(info), library.MAP_READ):
            raise CaptureError(
                "the CPU cannot read the frame's memory; convert it in the pipeline (on a Jetson by "
                "nvvidconv)"
            )
        try:
            yield self._view(form, info)
        finally:
            self._gst.gst_buffer_unmap(self._buffer, byref(info))

    def _view(self, form: FrameFormat, info: library.MapInfo) -> NDArray[Any]:
        if form.pixels not in _LAYOUTS:
            raise CaptureError(f"frames of {form.pixels!r}; have {', '.join(_LAYOUTS)}")
        dtype, channels = _LAYOUTS[form.pixels]
        pixel = np.dtype(dtype).itemsize * channels
        row = form.width * pixel
        offset, stride = self._place(form, row, info.size)
        needed = offset + stride * (form.height - 1) + row
        if stride < row or needed > info.size:
            raise CaptureError(
                f"{info.size} bytes where {form.pixels} of {form.width} x {form.height} with {stride} "
                f"bytes per row needs {needed}; the caps in the pipeline do not describe its frames"
            )
        data = (ctypes.c_ubyte * info.size).from_address(info.data)
        shape, strides = (form.height, form.width), (stride, pixel)
        if channels > 1:
            shape, strides = (*shape, channels), (*strides, 1)  # type: ignore[assignment]
        view: NDArray[Any] = np.ndarray(shape, dtype, data, offset, strides)
        view.flags.writeable = False
        return view

    def _place(self, form: FrameFormat, row: int, size: int) -> tuple[int, int]:
        """Where the first row begins, and how many bytes after it the next one."""
        meta = self._gst.gst_buffer_get_video_meta(self._buffer)
        if meta:
            return int(meta.contents.offset[0]), int(meta.contents.stride[0])
        padded = -(-row // 4) * 4
        # Mosaics come both ways: as the sensor's rows, or padded like everything else.
        if form.pixels.islower() and size < padded * (form.height - 1) + row:
            return 0, row
        return 0, padded
