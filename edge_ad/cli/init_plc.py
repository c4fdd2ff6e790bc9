"""The commented plc.toml that `edge-ad init --plc` writes."""

from __future__ import annotations

# Lines that begin with "#" and no space are keys at their defaults; a test reads them back.
PLC_TEMPLATE = """\
# The bridge between a PLC and the daemon, 'edge-ad plc -c FILE': the PLC tracks parts, moves the gate.
# Keys that are commented out are at their defaults. Relative paths are relative to this file. The
# register map and the handshake are in deploy/plc/README.md. Times are milliseconds.

schema = 1

# What the daemon knows the bridge by; its station file has it in verdicts.consumers, and there
# trigger.kind is "message".
#name = "plc"
# Records and the bridge's own sockets live here; not the daemon's state_dir.
#state_dir = "plc-state"

# Where the daemon is, as in its station file: [verdicts], [trigger] and [control].
[daemon]
#verdicts = "ipc://state/verdicts.sock"
#trigger = "ipc://state/trigger.sock"
#control = "ipc://state/control.sock"
# Its public key, where these are TCP and it has [curve].
#server_key = ""
#heartbeat_ms = 500.0
#lost_ms = 1500.0

# What leads to the PLC. "modbus-server": the PLC is the Modbus-TCP client and writes and reads registers
# of this machine. "modbus-client": the registers of the PLC are polled. "module:Class": a plug-in.
[fieldbus]
#kind = "modbus-server"

# Of kind "modbus-server". Modbus knows no passwords: give the address of the machine network's card.
[fieldbus.options]
#host = "127.0.0.1"
# The standard's 502 needs CAP_NET_BIND_SERVICE.
#port = 1502
# First register of the block that the PLC writes, and of the one that it reads, counted from 0.
#inputs = 0
#outputs = 100
# Which character of a register comes first: "high_first" or "low_first" byte.
#byte_order = "high_first"
# Of kind "modbus-client": host, port (502), inputs, outputs, byte_order, and
# unit (1): of the PLC; poll_ms (5.0): between two reads; timeout_ms (500.0): for an answer.

[handshake]
# From Trigger to ResultValid. A later verdict is FAULT, never PASS.
#deadline_ms = 500.0
# A result waits so long for Ack; then Error no_ack, and nothing passes until Reset.
#ack_ms = 2000.0
# The PLC's heartbeat changes at least so often, or Error plc_heartbeat.
#plc_ms = 1000.0
# Between two changes of the bridge's heartbeat.
#heartbeat_ms = 100.0
# How long the bridge sleeps when nobody says anything, 1 to 1000.
#poll_ms = 5.0
# Parts that may be under way or wait for Ack, 1 to 64. 1: the next Trigger after the last Ack.
#depth = 1
# Part keys that are known to be used.
#remember_keys = 100000

# What was heard and told, in STATE_DIR/plc.db; the oldest go.
[records]
#keep = 1000000

# Where 'edge-ad plc' is asked how it is; empty: a socket in state_dir.
[control]
#endpoint = ""

# The own secret key for a daemon with keys, of 'edge-ad keys new'.
[curve]
#secret = ""

# The Prometheus endpoint, http://HOST:PORT/metrics; port 0 takes a free one and logs it.
[metrics]
#host = "127.0.0.1"
#port = 9572
"""
