"""The bridge between a PLC, which owns the tracking of parts and the gate, and the daemon.

codes.py       the numbers that go over the fieldbus: verdicts, reasons, states, errors
signals.py     what the PLC says and what it is told
handshake.py   trigger, busy, result, acknowledge: the rules, without a clock or a socket of its own
registers.py   signals as 16-bit registers: the register map
fieldbus.py    the interface of a fieldbus, and how one is chosen; modbus_*.py: Modbus-TCP
store.py       what was heard and what was told, on disk
run.py         the loop of `edge-ad plc`

A part passes only while ResultValid stands with verdict PASS and the part's own key beside it.
"""
