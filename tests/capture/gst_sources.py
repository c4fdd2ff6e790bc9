"""Sources on pipelines of the real GStreamer, and samples made by hand."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_void_p
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from numpy.typing import NDArray

from edge_ad.capture.gst.library import bind, gstreamer
from edge_ad.capture.gst.sample import Sample
from edge_ad.capture.gstreamer import GStreamerSource
from edge_ad.capture.source import open_source
from edge_ad.config import Camera
from edge_ad.errors import CaptureError
from edge_ad.frame import Frame


def installed() -> SimpleNamespace:
    """The library; where there is none: skipped, which fails under CI."""
    try:
        return gstreamer()
    except CaptureError as error:
        pytest.skip(str(error))


def source(pipeline: str, *, opened: bool = True, **keys: Any) -> GStreamerSource:
    """A source on `gst://pipeline`."""
    made = open_source(Camera(name="top", uri=f"gst://{pipeline}", **keys), Path())
    assert isinstance(made, GStreamerSource)
    if opened:
        made.open()
    return made


def drain(made: GStreamerSource) -> list[Frame]:
    """All frames to the end of the stream."""
    frames = []
    while (frame := made.read()) is not None:
        frames.append(frame)
    made.close()
    return frames


def first(pipeline: str, **keys: Any) -> Frame:
    """The first frame of a pipeline."""
    made = source(pipeline, **keys)
    frame = made.read()
    made.close()
    assert frame is not None
    return frame


def picture(pipeline: str, **keys: Any) -> NDArray[Any]:
    """The first frame's image, with memory of its own."""
    frame = first(pipeline, **keys)
    assert frame.image is not None, frame.detail
    assert frame.image.flags.c_contiguous and frame.image.flags.writeable
    return frame.image


def wait_for(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    """Poll until true."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.002)


_MAKERS = {
    "libgstreamer-1.0.so.0": {
        "gst_buffer_new_allocate": (c_void_p, c_void_p, c_size_t, c_void_p),
        "gst_buffer_fill": (c_size_t, c_void_p, c_size_t, c_char_p, c_size_t),
        "gst_caps_from_string": (c_void_p, c_char_p),
        "gst_sample_new": (c_void_p, c_void_p, c_void_p, c_void_p, c_void_p),
    },
    "libgstvideo-1.0.so.0": {
        "gst_video_format_from_string": (c_int, c_char_p),
        "gst_buffer_add_video_meta_full": (
            c_void_p, c_void_p, c_int, c_int, c_int, c_int, c_int, POINTER(c_size_t), POINTER(c_int),
        ),
    },
}  # fmt: skip


def made_sample(
    caps: str, data: bytes, meta: tuple[int, int, int, int] | None = None, flags: int = 0
) -> Sample:
    """A sample of these bytes. `meta`: width, height, offset and stride of a GstVideoMeta."""
    gst, make = installed(), bind(_MAKERS)
    buffer = make.gst_buffer_new_allocate(None, len(data), None)
    assert make.gst_buffer_fill(buffer, 0, data, len(data)) == len(data)
    if meta is not None:
        width, height, offset, stride = meta
        name = caps.partition("format=")[2].partition(",")[0]
        offsets, strides = (c_size_t * 4)(offset), (c_int * 4)(stride)
        kind = make.gst_video_format_from_string(name.encode())
        assert make.gst_buffer_add_video_meta_full(buffer, 0, kind, width, height, 1, offsets, strides)
    handle = make.gst_caps_from_string(caps.encode())
    sample = Sample(gst, make.gst_sample_new(buffer, handle, None, None))
    gst.gst_sample_get_buffer(sample._handle).contents.mini_object.flags |= flags
    gst.gst_mini_object_unref(ctypes.c_void_p(buffer))
    gst.gst_mini_object_unref(ctypes.c_void_p(handle))
    return sample
