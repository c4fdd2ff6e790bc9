"""Aravis's C library, as far as a camera needs it.

It is called through ctypes as GStreamer is: PyGObject comes without wheels. The functions are part of
the stable 0.8 ABI. Written for 64-bit Linux.
"""

from __future__ import annotations

import ctypes
import threading
from ctypes import POINTER, byref, c_char_p, c_double, c_int, c_int64, c_size_t, c_uint, c_uint64
from ctypes import c_void_p as _P
from functools import cache
from types import SimpleNamespace
from typing import Any

from edge_ad.capture.gst.library import GError, bind
from edge_ad.errors import CaptureError

PACKAGES = "libaravis-0.8-0"
ARAVIS = "libaravis-0.8.so.0"
BUFFER_SUCCESS = 0
# ArvBufferStatus, of what arrived and cannot be used.
STATUS = {
    -1: "nothing is known of the buffer", 1: "the buffer was never filled", 2: "packets came too late",
    3: "packets are missing", 4: "packets came out of order", 5: "the size is not the announced one",
    6: "the buffer was being filled", 7: "the transfer was aborted", 8: "the payload is no image",
}  # fmt: skip
RANGE_CHECK = 1  # a value out of range is an error

_E = POINTER(POINTER(GError))
# library -> function -> what it returns, what it takes
_FUNCTIONS: dict[str, dict[str, tuple[Any, ...]]] = {
    "libglib-2.0.so.0": {
        "g_free": (None, _P),
        "g_error_free": (None, POINTER(GError)),
    },
    "libgio-2.0.so.0": {
        "g_inet_socket_address_get_address": (_P, _P),
        "g_inet_address_to_string": (_P, _P),
    },
    "libgobject-2.0.so.0": {
        "g_object_unref": (None, _P),
        "g_type_check_instance_is_a": (c_int, _P, c_size_t),
    },
    ARAVIS: {
        "arv_update_device_list": (None,),
        "arv_get_n_devices": (c_uint,),
        "arv_get_device_id": (c_char_p, c_uint),
        "arv_get_device_vendor": (c_char_p, c_uint),
        "arv_get_device_model": (c_char_p, c_uint),
        "arv_get_device_serial_nbr": (c_char_p, c_uint),
        "arv_get_device_address": (c_char_p, c_uint),
        "arv_camera_new": (_P, c_char_p, _E),
        "arv_camera_get_device": (_P, _P),
        "arv_camera_is_gv_device": (c_int, _P),
        "arv_camera_get_payload": (c_uint, _P, _E),
        "arv_camera_create_stream": (_P, _P, _P, _P, _E),
        "arv_camera_start_acquisition": (None, _P, _E),
        "arv_camera_stop_acquisition": (None, _P, _E),
        "arv_camera_software_trigger": (None, _P, _E),
        "arv_gv_device_is_controller": (c_int, _P),
        "arv_gv_device_get_device_address": (_P, _P),
        "arv_device_set_range_check_policy": (None, _P, c_int),
        "arv_device_is_feature_available": (c_int, _P, c_char_p, _E),
        "arv_device_get_feature": (_P, _P, c_char_p),
        "arv_device_execute_command": (None, _P, c_char_p, _E),
        "arv_device_get_boolean_feature_value": (c_int, _P, c_char_p, _E),
        "arv_device_get_integer_feature_value": (c_int64, _P, c_char_p, _E),
        "arv_device_get_float_feature_value": (c_double, _P, c_char_p, _E),
        "arv_device_get_string_feature_value": (c_char_p, _P, c_char_p, _E),
        "arv_device_set_boolean_feature_value": (None, _P, c_char_p, c_int, _E),
        "arv_device_set_integer_feature_value": (None, _P, c_char_p, c_int64, _E),
        "arv_device_set_float_feature_value": (None, _P, c_char_p, c_double, _E),
        "arv_device_set_string_feature_value": (None, _P, c_char_p, c_char_p, _E),
        "arv_device_dup_available_enumeration_feature_values_as_strings": (
            POINTER(c_char_p), _P, c_char_p, POINTER(c_uint), _E,
        ),
        "arv_gc_boolean_get_type": (c_size_t,),
        "arv_gc_command_get_type": (c_size_t,),
        "arv_gc_enumeration_get_type": (c_size_t,),
        "arv_gc_float_get_type": (c_size_t,),
        "arv_gc_integer_get_type": (c_size_t,),
        "arv_gc_string_get_type": (c_size_t,),
        "arv_stream_push_buffer": (None, _P, _P),
        "arv_stream_timeout_pop_buffer": (_P, _P, c_uint64),
        "arv_buffer_new_allocate": (_P, c_size_t),
        "arv_buffer_get_status": (c_int, _P),
        "arv_buffer_get_data": (_P, _P, POINTER(c_size_t)),
        "arv_buffer_get_frame_id": (c_uint64, _P),
        "arv_buffer_get_timestamp": (c_uint64, _P),
        "arv_buffer_get_image_width": (c_int, _P),
        "arv_buffer_get_image_height": (c_int, _P),
        "arv_buffer_get_image_pixel_format": (c_uint, _P),
    },
}  # fmt: skip
# Of later versions of 0.8; None where they are missing.
_LATER: dict[str, tuple[Any, ...]] = {
    "arv_buffer_get_image_padding": (_P, POINTER(c_int), POINTER(c_int)),
    "arv_buffer_set_frame_id": (_P, c_uint64),
}

_loading = threading.Lock()


def aravis() -> SimpleNamespace:
    """The functions above under their C names. Thread safe. Raises CaptureError where Aravis is not
    installed."""
    with _loading:
        return _load()


@cache
def _load() -> SimpleNamespace:
    found = bind(_FUNCTIONS, "Aravis", PACKAGES)
    for name, takes in _LATER.items():
        function = getattr(ctypes.CDLL(ARAVIS), name, None)
        if function is not None:
            function.restype, function.argtypes = None, takes
        setattr(found, name, function)
    return found


def checked(function: Any, *arguments: Any) -> Any:
    """Call a function whose last argument is a GError**. Raises CaptureError with what it says."""
    error = POINTER(GError)()
    result = function(*arguments, byref(error))
    if error:
        text = (error.contents.message or b"no reason given").decode(errors="replace").strip()
        aravis().g_error_free(error)
        raise CaptureError(text)
    return result
