"""A GStreamer pipeline that ends in a sink of ours, and what goes wrong in it as one line."""

from __future__ import annotations

import ctypes
import re
from ctypes import POINTER, byref, c_void_p

from edge_ad.capture.gst import library
from edge_ad.capture.gst.library import GError, GValue, gstreamer
from edge_ad.capture.gst.sample import Sample
from edge_ad.errors import CaptureError

SINK = "edge_ad"  # the name of the appsink

_PARSE, _STREAM = "gst_parse_error", "gst-stream-error-quark"
_FORMATS = (
    "what they offer shows 'gst-launch-1.0 -v'; set pixel_format to what the camera sends, and leave a "
    "Jetson's memory:NVMM by nvvidconv"
)
# By the domain of an error, of some by its code too; "" for all others.
_REMEDIES = {
    (_PARSE, 1): (
        "correct its name, or install the package that has it (gstreamer1.0-plugins-good, -bad; on a "
        "Jetson nvidia-l4t-gstreamer)"
    ),
    (_PARSE, 2): "'gst-inspect-1.0 ELEMENT' lists what it has",
    (_PARSE, 3): f"the sink is appended, leave it out; else they agree on no format: {_FORMATS}",
    _PARSE: "try the pipeline with gst-launch-1.0",
    "gst-resource-error-quark": (
        "check that the camera is connected, not in use by another program, and that this user may "
        "read it (group 'video'), or correct the path"
    ),
    _STREAM: f"if its neighbours agree on no format: {_FORMATS}",
    "": "run the pipeline with gst-launch-1.0 to see where it fails",
}


class Pipeline:
    """A description as `gst-launch-1.0` takes it, with an `appsink name=edge_ad`; made, not started.

    Used by one thread at a time. `close` may be repeated; samples that were pulled outlive it. Raises
    CaptureError for what cannot be made: unknown elements, properties, links.
    """

    def __init__(self, description: str) -> None:
        self._gst = gstreamer()
        problem = POINTER(GError)()
        made = self._gst.gst_parse_launch_full(
            description.encode(), None, library.PARSE_FATAL_ERRORS, byref(problem)
        )
        if not made:
            raise CaptureError(self._explain(problem, ""))
        self._pipeline: int | None = self._gst.gst_object_ref_sink(made)
        self._bus = self._gst.gst_element_get_bus(made)
        self._sink = self._gst.gst_bin_get_by_name(made, SINK.encode())
        if not self._sink:
            self.close()
            raise CaptureError("the pipeline has no sink of ours; remove what cuts it short")

    @property
    def live(self) -> bool:
        """Whether frames come at a pace of their own, as a camera's. Sources that do not tell, as
        rtspsrc, are taken to be live."""
        iterator = self._gst.gst_bin_iterate_sources(self._pipeline)
        kind, told = self._gst.gst_base_src_get_type(), []
        value = GValue()
        while self._gst.gst_iterator_next(iterator, byref(value)) == library.ITERATOR_OK:
            source = self._gst.g_value_get_object(byref(value))
            knows = self._gst.g_type_check_instance_is_a(source, kind)
            told.append(not knows or bool(self._gst.gst_base_src_is_live(source)))
            self._gst.g_value_unset(byref(value))
        self._gst.gst_iterator_free(iterator)
        return any(told) or not told

    def play(self) -> None:
        """Start it. Raises CaptureError when an element refuses; what fails later is a `problem`."""
        state = self._gst.gst_element_set_state(self._pipeline, library.STATE_PLAYING)
        if state == library.STATE_CHANGE_FAILURE:
            raise CaptureError(self.problem() or f"it does not start; {_REMEDIES['']}")

    def pull(self, timeout_s: float) -> Sample | None:
        """The next frame; None when none came in time, or none will come."""
        handle = self._gst.gst_app_sink_try_pull_sample(self._sink, int(timeout_s * 1e9))
        return Sample(self._gst, handle) if handle else None

    def problem(self) -> str:
        """The first error since the last call, "" for none. Also lets go of all that the elements had
        to say, so it is to be called again and again."""
        message = self._gst.gst_bus_timed_pop_filtered(self._bus, 0, library.MESSAGE_ERROR)
        if not message:
            return ""
        problem, debug = POINTER(GError)(), c_void_p()
        self._gst.gst_message_parse_error(message, byref(problem), byref(debug))
        source = message.contents.src
        name = self._text(self._gst.gst_object_get_name(source)) if source else "the pipeline"
        text = f"{name}: {self._explain(problem, self._text(debug.value))}"
        self._gst.gst_mini_object_unref(ctypes.cast(message, c_void_p))
        return text

    @property
    def ended(self) -> bool:
        """Whether the stream is over and all of it was pulled; asked after `play`."""
        return bool(self._gst.gst_app_sink_is_eos(self._sink))

    def close(self) -> None:
        """Stop it and let go of the camera. May wait for a driver that does not answer."""
        if self._pipeline is None:
            return
        self._gst.gst_element_set_state(self._pipeline, library.STATE_NULL)
        for one in (self._sink, self._bus, self._pipeline):
            if one:
                self._gst.gst_object_unref(one)
        self._pipeline = None

    def _explain(self, problem: ctypes._Pointer[GError], debug: str) -> str:
        """An error as a line with its remedy; frees it."""
        error = problem.contents
        domain = (self._gst.g_quark_to_string(error.domain) or b"").decode(errors="replace")
        text = (error.message or b"").decode(errors="replace").strip()
        # What a developer is told begins with a line of code; a reason may follow upon it.
        reason = debug.strip().partition("\n")[2]
        text = f"{text} ({reason})" if reason else text
        remedy = _REMEDIES.get((domain, error.code)) or _REMEDIES.get(domain) or _REMEDIES[""]
        self._gst.g_error_free(problem)
        return re.sub(r"\s+", " ", f"{text}; {remedy}")

    def _text(self, pointer: int | None) -> str:
        """A C string as text; frees it."""
        if not pointer:
            return ""
        text = ctypes.string_at(pointer).decode(errors="replace")
        self._gst.g_free(pointer)
        return text
