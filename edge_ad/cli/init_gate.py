"""The commented gate.toml that `edge-ad init --gate` writes."""

from __future__ import annotations

# Lines that begin with "#" and no space are keys at their defaults; a test reads them back.
GATE_TEMPLATE = """\
# The station at the reject gate: 'edge-ad station -c FILE'. It rejects what has no PASS of its own in
# time. A quality function, not a safety function. Lines with a single "#" are explanations, the others
# keys at their defaults.
schema = 1
# The station of the daemons' station files; verdicts of another are rejected.
station = "line1"
# Verdicts about another product are rejected; empty: any product.
#product = ""
# Relative paths, also those after ipc://, are relative to this file.
#state_dir = "gate-state"

# A daemon whose verdicts are heard; one [[source]] for each.
[[source]]
name = "main"
# The daemon's verdicts.endpoint, and one of its verdicts.consumers.
endpoint = "ipc://state/verdicts.sock"
#consumer = "gate"
# Whether a part needs this daemon's PASS; verdicts of others are only recorded.
#required = true
# Its public key (NAME.key), where its endpoint is TCP and it has [curve].
#server_key = ""
# As in the daemon's [verdicts], milliseconds.
#heartbeat_ms = 500.0
#lost_ms = 1500.0

# From the station's own part-present sensor to the gate.
[belt]
# Milliseconds at constant speed, or counts of the encoder: one of them. The example is 1.5 s.
travel_ms = 1500.0
#travel_counts = 0
# The PASS signal begins so long before the gate and ends so long after it, in the unit of travel.
#before = 10.0
#after = 20.0
# With travel_counts the PASS signal lasts this long at most, milliseconds.
#pulse_ms = 200.0
# A verdict must come so soon after its part was present, and in any case before the gate, milliseconds.
#deadline_ms = 500.0
# Parts that may be between sensor and gate; the part that finds no room is rejected.
#max_parts = 1024

# What proves that a verdict is a part's own; the order in which things arrive never does.
[identity]
# "message": the part-present input gives the part's key, the one that its trigger gave the daemon.
# "time": there are no keys; the daemon's trigger and the station's sensor must agree in time, and the
# counts of both must run alike.
#key = "message"
# How far trigger and presence may be apart, milliseconds. With keys: less than the time between two
# parts, as it tells parts apart that have one key and of which each side missed another one; 0: as
# hold_ms. With "time" no other part or verdict may be within twice that.
#match_ms = 0.0
# The part is at the station's sensor so long after the camera's trigger; negative: before.
#match_offset_ms = 0.0
# With "time": so many counts in a row must agree before a part passes.
#resync_parts = 3
# A verdict that comes before its part waits so long, and so many of them.
#hold_ms = 200.0
#max_held = 256
# Keys that are remembered, to know one that is used again.
#remember_keys = 10000
# What becomes of a part whose own PASS had come when the link is lost afterwards: "reject", or with keys
# "keep", which passes it.
#link_loss = "reject"

# The station's part-present sensor. tcp://HOST:PORT or ipc://PATH: messages, which give keys.
# gpio:///dev/gpiochip0?line=17&edge=rising&bias=pull-up&debounce_ms=1: a line, which does not.
[present]
uri = "ipc://gate-state/present.sock"

# The encoder, where travel is in counts: an uri as above (the same for messages of the same sender), a
# count for each edge.
[encoder]
#uri = ""

# The sensor at the reject bin.
[confirm]
#uri = ""
# "reject": every rejected part must be seen there, or the line is stopped until 'edge-ad station reset'.
#what = "none"
# So long after it has left the gate, milliseconds.
#within_ms = 1000.0

# What opens the gate, which rejects without signal and without heartbeat. tcp:// or ipc://: messages.
# gpio:///dev/gpiochip0?pass=5&heartbeat=6&line_stop=13: lines; pass goes through a watchdog relay that
# the heartbeat holds, as a process that is killed may leave its lines as they were.
[output]
uri = "ipc://gate-state/gate.sock"
# Between two signs of life, milliseconds.
#heartbeat_ms = 100.0

# Verdicts, actions and alarms, in state_dir/station.db.
[log]
# Hours of running, and megabytes; the oldest goes first.
#retention_hours = 2000.0
#max_megabytes = 500.0

# Where 'edge-ad station status' and 'reset' reach the station; empty: a socket in state_dir.
[control]
#endpoint = ""

# The own secret key for daemons with keys, of 'edge-ad keys new'.
[curve]
#secret = ""

# The Prometheus endpoint; port 0 takes a free one and logs it.
[metrics]
#host = "127.0.0.1"
#port = 9571
"""
