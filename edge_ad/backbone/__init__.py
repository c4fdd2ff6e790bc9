from __future__ import annotations

import sys

# OpenVINO tells its makers over the network whenever it is imported, in a thread of its own, unless this
# package is missing: a line PC tells nobody anything. Whoever has imported it before knows about it.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
