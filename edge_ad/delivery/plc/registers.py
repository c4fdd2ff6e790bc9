"""The register map: signals as 16-bit registers, two blocks whose base addresses are configuration.

Text takes 16 registers of two characters, in ascending order, filled up with zeros (blanks at the end do
not count); which character of a register is the first is `ByteOrder`. Numbers are unsigned 16 bit. The
word with the handshake's bits is the last of its block, so that whoever reads a block in ascending order
has the rest before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edge_ad.delivery.plc.signals import KEY_CHARACTERS, Inputs, Outputs

ByteOrder = Literal["high_first", "low_first"]
TEXT = KEY_CHARACTERS // 2  # registers of a text

ENABLE, TRIGGER, ACK, RESET = 1, 2, 4, 8  # bits of the control word
READY, BUSY, RESULT_VALID, ERROR = 1, 2, 4, 8  # bits of the status word


@dataclass(frozen=True, slots=True)
class Field:
    """Registers from `offset` on, relative to the block's base address."""

    name: str
    offset: int
    size: int
    text: str


INPUTS = (
    Field("part_key", 0, TEXT, "key of the part, valid while Trigger is up"),
    Field("product", TEXT, TEXT, "product that is to be made; all zeros: whatever the daemon makes"),
    Field("map_version", 2 * TEXT, 1, "register map that the PLC program was made for: 1"),
    Field("heartbeat", 2 * TEXT + 1, 1, "counter that changes as long as the PLC program runs"),
    Field("trigger_count", 2 * TEXT + 2, 1, "one more at every Trigger; 65535 is followed by 0"),
    Field("control", 2 * TEXT + 3, 1, "bit 0 Enable, bit 1 Trigger, bit 2 Ack, bit 3 Reset"),
)
OUTPUTS = (
    Field("part_key", 0, TEXT, "key of the part that the result is about"),
    Field("product", TEXT, TEXT, "product that the daemon makes"),
    Field("map_version", 2 * TEXT, 1, "register map of the bridge: 1"),
    Field("heartbeat", 2 * TEXT + 1, 1, "counter that changes as long as the bridge runs"),
    Field("trigger_echo", 2 * TEXT + 2, 1, "trigger_count of the Trigger that was accepted last"),
    Field("result_count", 2 * TEXT + 3, 1, "results shown so far; 65535 is followed by 0"),
    Field("verdict", 2 * TEXT + 4, 1, "0 none, 1 PASS, 2 REJECT, 3 FAULT"),
    Field("reason", 2 * TEXT + 5, 1, "why the part did not pass"),
    Field("state", 2 * TEXT + 6, 1, "state of the bridge"),
    Field("error_code", 2 * TEXT + 7, 1, "which Error stands"),
    Field("status", 2 * TEXT + 8, 1, "bit 0 Ready, bit 1 Busy, bit 2 ResultValid, bit 3 Error"),
)
INPUT_SIZE = INPUTS[-1].offset + 1
OUTPUT_SIZE = OUTPUTS[-1].offset + 1


def encode_text(text: str, order: ByteOrder) -> list[int]:
    """Text as registers; what is too long or not ASCII is cut or replaced."""
    data = text.encode("ascii", "replace")[:KEY_CHARACTERS].ljust(KEY_CHARACTERS, b"\0")
    end: Literal["big", "little"] = "big" if order == "high_first" else "little"
    return [int.from_bytes(data[i : i + 2], end) for i in range(0, KEY_CHARACTERS, 2)]


def decode_text(registers: Sequence[int], order: ByteOrder) -> str:
    """Registers as text, each byte one character, without the zeros and blanks at its end."""
    end: Literal["big", "little"] = "big" if order == "high_first" else "little"
    return b"".join(r.to_bytes(2, end) for r in registers).decode("latin-1").rstrip("\0 ")


def encode_outputs(outputs: Outputs, order: ByteOrder) -> list[int]:
    """The block that the PLC reads."""
    status = (
        READY * outputs.ready
        + BUSY * outputs.busy
        + RESULT_VALID * outputs.result_valid
        + ERROR * outputs.error
    )
    return [
        *encode_text(outputs.part, order),
        *encode_text(outputs.product, order),
        outputs.map_version,
        outputs.heartbeat,
        outputs.trigger_echo,
        outputs.results,
        int(outputs.verdict),
        outputs.reason,
        int(outputs.state),
        int(outputs.error_code),
        status,
    ]


def decode_inputs(registers: Sequence[int], order: ByteOrder) -> Inputs:
    """The block that the PLC writes. It must have INPUT_SIZE registers."""
    version, heartbeat, count, control = registers[2 * TEXT : INPUT_SIZE]
    return Inputs(
        part=decode_text(registers[:TEXT], order),
        product=decode_text(registers[TEXT : 2 * TEXT], order),
        map_version=version,
        heartbeat=heartbeat,
        count=count,
        enable=bool(control & ENABLE),
        trigger=bool(control & TRIGGER),
        ack=bool(control & ACK),
        reset=bool(control & RESET),
    )
