"""What the PLC says and what it is told, whatever the fieldbus."""

from __future__ import annotations

from dataclasses import dataclass

from edge_ad.delivery.plc.codes import MAP_VERSION, Error, Result, State

KEY_CHARACTERS = 32  # of a part key, and of a product


@dataclass(frozen=True, slots=True)
class Inputs:
    """From the PLC, all of one moment. Counters are 16-bit and wrap from 65535 to 0."""

    part: str = ""
    product: str = ""  # what is to be made; "": whatever the daemon makes
    map_version: int = 0  # that the PLC program was made for
    heartbeat: int = 0  # changes as long as the PLC program runs
    count: int = 0  # one more at every trigger
    enable: bool = False
    trigger: bool = False
    ack: bool = False
    reset: bool = False


@dataclass(frozen=True, slots=True)
class Outputs:
    """To the PLC. `part`, `verdict`, `reason` and `results` are about one part while `result_valid`."""

    part: str = ""
    product: str = ""  # what the daemon makes
    map_version: int = MAP_VERSION
    heartbeat: int = 0
    trigger_echo: int = 0  # the PLC's count at the last trigger that was accepted
    results: int = 0  # results shown so far
    verdict: Result = Result.NONE
    reason: int = 0
    state: State = State.PREOPERATIONAL
    error_code: Error = Error.NONE
    ready: bool = False
    busy: bool = False
    result_valid: bool = False
    error: bool = False


def is_key(text: str) -> bool:
    """Whether a part key names a part: 1 to 32 printable ASCII characters, no blanks."""
    return 0 < len(text) <= KEY_CHARACTERS and all("!" <= c <= "~" for c in text)
