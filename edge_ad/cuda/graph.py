"""A stream's work captured as a CUDA graph, to be launched as a whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edge_ad.cuda.device import Device
from edge_ad.cuda.failure import CAPTURES, check, failed
from edge_ad.cuda.primary import SETUP
from edge_ad.cuda.stream import Stream
from edge_ad.errors import DeviceError


class GraphRefused(DeviceError):
    """Something of the work cannot be in a graph; on a stream it may well run."""


class Graph:
    """What `enqueue` puts on a stream, captured once.

    Addresses and sizes are those of the capture: what is bound may change its contents, not its place.
    """

    __slots__ = ("_bindings", "_device", "_executable")

    def __init__(self, device: Device, stream: Stream, enqueue: Callable[[], None]) -> None:
        """Capture. Nothing runs, and `enqueue` must neither wait nor allocate.

        Raises GraphRefused when something of it cannot be in a graph; the stream is then as before.
        DeviceError for anything else.
        """
        device.check_thread()
        self._device, self._bindings = device, device.bindings
        graph = self._capture(stream, enqueue)
        try:
            found = self._bindings.cuGraphInstantiate(graph, 0)
            self._executable: Any = check(found, "instantiating the frame's graph")
        finally:
            destroyed = self._bindings.cuGraphDestroy(graph)
        device.hold(self._executable, self._destroy)
        try:
            check(destroyed, "letting go of the captured graph")
            uploaded = self._bindings.cuGraphUpload(self._executable, stream.handle)
            check(uploaded, "uploading the frame's graph")
        except DeviceError:
            self.close()
            raise

    def _capture(self, stream: Stream, enqueue: Callable[[], None]) -> Any:
        # Other threads may launch, copy and allocate meanwhile, but nobody may wait for the context.
        mode = self._bindings.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        what = "capturing the frame as a graph"
        with SETUP:
            check(self._bindings.cuStreamBeginCapture(stream.handle, mode), what)
            try:
                enqueue()
            except BaseException as error:
                code, graph = self._bindings.cuStreamEndCapture(stream.handle)
                if not int(code):
                    self._bindings.cuGraphDestroy(graph)
                if isinstance(error, DeviceError) and int(code) in CAPTURES:
                    raise GraphRefused(str(error)) from error
                raise
            ended = self._bindings.cuStreamEndCapture(stream.handle)
        if int(ended[0]) in CAPTURES:
            raise GraphRefused(str(failed(ended[0].name, "", what)))
        return check(ended, what)

    def launch(self, stream: Stream) -> None:
        """Enqueue all of it. Raises DeviceError when the driver refuses."""
        if self._executable is None:
            raise DeviceError("the frame's graph is closed; open the engine again")
        check(
            self._bindings.cuGraphLaunch(self._executable, stream.handle), "launching the frame's graph"
        )

    def _destroy(self) -> None:
        check(self._bindings.cuGraphExecDestroy(self._executable), "destroying the frame's graph")

    def close(self) -> None:
        """Destroy it; calling it again does nothing."""
        if self._executable is not None:
            self._device.release(self._executable)
            self._executable = None
