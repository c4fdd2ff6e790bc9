"""An RTSP server whose pictures count: run by the system's Python, which has GStreamer's bindings.

Usage: rtsp_server.py PORT FPS. The picture with number n is black but for the bright bits of n, each a
square of 32 x 32, the lowest at the left.
"""

from __future__ import annotations

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

BITS, SIDE = 12, 32


class Counting(GstRtspServer.RTSPMediaFactory):
    def __init__(self, fps: int) -> None:
        super().__init__()
        self._fps, self._number = fps, 0
        self.set_shared(True)

    def do_create_element(self, url: object) -> Gst.Element:
        caps = f"video/x-raw,format=I420,width={BITS * SIDE},height={SIDE},framerate={self._fps}/1"
        pipeline = Gst.parse_launch(
            f"( appsrc name=source is-live=true do-timestamp=true format=time caps={caps} "
            "! jpegenc quality=95 ! rtpjpegpay name=pay0 pt=26 )"
        )
        source = pipeline.get_by_name("source")
        GLib.timeout_add(1000 // self._fps, self._push, source)
        return pipeline

    def _push(self, source: Gst.Element) -> bool:
        row = b"".join(bytes([235 if self._number >> i & 1 else 16]) * SIDE for i in range(BITS))
        picture = row * SIDE + bytes([128]) * (BITS * SIDE * SIDE // 2)
        self._number += 1
        return source.emit("push-buffer", Gst.Buffer.new_wrapped(picture)) == Gst.FlowReturn.OK


Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(sys.argv[1])
server.get_mount_points().add_factory("/count", Counting(int(sys.argv[2])))
server.attach(None)
sys.stdout.write("ready\n")
sys.stdout.flush()
GLib.MainLoop().run()
