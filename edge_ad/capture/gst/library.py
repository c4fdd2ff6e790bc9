"""GStreamer's C libraries, as far as a camera needs them.

They are called through ctypes, because PyPI's OpenCV is built without GStreamer and PyGObject comes
without wheels. The functions and structures below are part of the stable 1.x ABI. Written for 64-bit
Linux.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Mapping
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint, c_uint32, c_uint64, c_void_p
from functools import cache
from types import SimpleNamespace
from typing import Any

from edge_ad.errors import CaptureError

PACKAGES = (
    "libgstreamer1.0-0 libgstreamer-plugins-base1.0-0 gstreamer1.0-plugins-base "
    "gstreamer1.0-plugins-good"
)
MAP_READ = 1
MESSAGE_ERROR = 1 << 1
PARSE_FATAL_ERRORS = 1  # no half-made pipeline
STATE_NULL, STATE_PLAYING = 1, 4
STATE_CHANGE_FAILURE = 0
ITERATOR_OK = 1
NONE = 2**64 - 1  # of times and offsets


class GError(ctypes.Structure):
    """`domain` is a quark, `code` an enumeration of that domain."""

    _fields_ = (("domain", c_uint32), ("code", c_int), ("message", c_char_p))


class GValue(ctypes.Structure):
    """A typed value; all zero before its first use."""

    _fields_ = (("g_type", c_size_t), ("data", c_uint64 * 2))


class MiniObject(ctypes.Structure):
    """The head of everything that is counted but no GObject: buffers, samples, messages."""

    _fields_ = (
        ("type", c_size_t), ("refcount", c_int), ("lockstate", c_int), ("flags", c_uint),
        ("copy", c_void_p), ("dispose", c_void_p), ("free", c_void_p),
        ("priv_uint", c_uint), ("priv_pointer", c_void_p),
    )  # fmt: skip


class Buffer(ctypes.Structure):
    """The public part of GstBuffer; times in nanoseconds."""

    _fields_ = (
        ("mini_object", MiniObject), ("pool", c_void_p), ("pts", c_uint64), ("dts", c_uint64),
        ("duration", c_uint64), ("offset", c_uint64), ("offset_end", c_uint64),
    )  # fmt: skip


class Message(ctypes.Structure):
    """The public part of GstMessage."""

    _fields_ = (
        ("mini_object", MiniObject), ("type", c_uint), ("timestamp", c_uint64), ("src", c_void_p),
    )  # fmt: skip


class MapInfo(ctypes.Structure):
    """Where a mapped buffer lies in memory."""

    _fields_ = (
        ("memory", c_void_p), ("flags", c_int), ("data", c_void_p), ("size", c_size_t),
        ("maxsize", c_size_t), ("user_data", c_void_p * 4), ("reserved", c_void_p * 4),
    )  # fmt: skip


class VideoMeta(ctypes.Structure):
    """How the planes of a frame lie in its buffer, where that is not the default."""

    _fields_ = (
        ("meta_flags", c_int), ("meta_info", c_void_p), ("buffer", c_void_p), ("flags", c_int),
        ("format", c_int), ("id", c_int), ("width", c_uint), ("height", c_uint), ("n_planes", c_uint),
        ("offset", c_size_t * 4), ("stride", c_int * 4),
    )  # fmt: skip


_P = c_void_p
# library -> function -> what it returns, what it takes
_FUNCTIONS: dict[str, dict[str, tuple[Any, ...]]] = {
    "libglib-2.0.so.0": {
        "g_free": (None, _P),
        "g_error_free": (None, POINTER(GError)),
        "g_quark_to_string": (c_char_p, c_uint32),
    },
    "libgobject-2.0.so.0": {
        "g_type_check_instance_is_a": (c_int, _P, c_size_t),
        "g_value_get_object": (_P, POINTER(GValue)),
        "g_value_unset": (None, POINTER(GValue)),
    },
    "libgstreamer-1.0.so.0": {
        "gst_init_check": (c_int, _P, _P, POINTER(POINTER(GError))),
        "gst_parse_launch_full": (_P, c_char_p, _P, c_int, POINTER(POINTER(GError))),
        "gst_bin_get_by_name": (_P, _P, c_char_p),
        "gst_bin_iterate_sources": (_P, _P),
        "gst_iterator_next": (c_int, _P, POINTER(GValue)),
        "gst_iterator_free": (None, _P),
        "gst_object_get_name": (_P, _P),
        "gst_object_ref_sink": (_P, _P),
        "gst_object_unref": (None, _P),
        "gst_mini_object_unref": (None, _P),
        "gst_element_get_bus": (_P, _P),
        "gst_element_set_state": (c_int, _P, c_int),
        "gst_bus_timed_pop_filtered": (POINTER(Message), _P, c_uint64, c_uint),
        "gst_message_parse_error": (None, POINTER(Message), POINTER(POINTER(GError)), POINTER(_P)),
        "gst_sample_get_buffer": (POINTER(Buffer), _P),
        "gst_sample_get_caps": (_P, _P),
        "gst_caps_get_structure": (_P, _P, c_uint),
        "gst_structure_get_name": (c_char_p, _P),
        "gst_structure_get_string": (c_char_p, _P, c_char_p),
        "gst_structure_get_int": (c_int, _P, c_char_p, POINTER(c_int)),
        "gst_buffer_map": (c_int, POINTER(Buffer), POINTER(MapInfo), c_int),
        "gst_buffer_unmap": (None, POINTER(Buffer), POINTER(MapInfo)),
    },
    "libgstbase-1.0.so.0": {
        "gst_base_src_get_type": (c_size_t,),
        "gst_base_src_is_live": (c_int, _P),
    },
    "libgstapp-1.0.so.0": {
        "gst_app_sink_is_eos": (c_int, _P),
        "gst_app_sink_try_pull_sample": (_P, _P, c_uint64),
    },
    "libgstvideo-1.0.so.0": {
        "gst_buffer_get_video_meta": (POINTER(VideoMeta), POINTER(Buffer)),
    },
}

_loading = threading.Lock()


def gstreamer() -> SimpleNamespace:
    """The functions above under their C names, of an initialised GStreamer. Thread safe. Raises
    CaptureError where it is not installed."""
    with _loading:
        return _load()


@cache
def _load() -> SimpleNamespace:
    found = bind(_FUNCTIONS)
    problem = POINTER(GError)()
    if not found.gst_init_check(None, None, ctypes.byref(problem)):
        text = problem.contents.message.decode(errors="replace") if problem else "no reason given"
        raise CaptureError(f"GStreamer does not start: {text}; apt-get install --reinstall {PACKAGES}")
    return found


def bind(
    functions: Mapping[str, Mapping[str, tuple[Any, ...]]],
    product: str = "GStreamer",
    packages: str = PACKAGES,
) -> SimpleNamespace:
    """Functions of libraries, each as (what it returns, *what it takes). Raises CaptureError for a
    library that is missing, naming the product and its packages."""
    found = SimpleNamespace()
    for library, of_library in functions.items():
        try:
            loaded = ctypes.CDLL(library)
        except OSError as error:
            raise CaptureError(
                f"{product} is not installed ({error}); apt-get install {packages}"
            ) from error
        for name, (returns, *takes) in of_library.items():
            function = getattr(loaded, name)
            function.restype, function.argtypes = returns, takes
            setattr(found, name, function)
    return found
