"""Prints the tables of README.md from the code that they describe: `python deploy/plc/tables.py`."""

from __future__ import annotations

from collections.abc import Sequence

from edge_ad.delivery.plc import codes, registers
from edge_ad.delivery.plc.codes import Error, State

STATES = {
    State.PREOPERATIONAL: "the PLC's heartbeat has not been seen to change",
    State.HALTED: "Enable is off",
    State.ERROR: "an Error stands",
    State.OPERATIONAL: "never shown as such: one of the following",
    State.INITIALIZED: "not ready: another product is asked for, or Trigger, Ack or Reset is up",
    State.READY: "Ready",
    State.SINGLE_EXECUTION: "a part is under way, or its result waits for Ack",
    State.CONTINUOUS_EXECUTION: "the same with depth above 1; Ready may be up",
}
ERRORS = {
    Error.NONE: ("", ""),
    Error.TRIGGER_NOT_READY: ("Trigger rose while Ready was down", "wait for Ready; Reset"),
    Error.NO_ACK: ("a result was not acknowledged within ack_ms", "acknowledge or not; Reset"),
    Error.PLC_HEARTBEAT: ("the PLC's heartbeat stood still for plc_ms", "Reset"),
    Error.BAD_KEY: ("the part key is empty, too long, or not printable ASCII", "Reset"),
    Error.KEY_REUSED: ("a part had this key before", "Reset; keys are unique"),
    Error.COUNT_MISMATCH: ("trigger_count did not advance by one", "Reset"),
    Error.DAEMON_LINK: ("the daemon is not heard", "goes by itself"),
    Error.MAP_MISMATCH: ("map_version is not 1", "run the program for this map"),
    Error.PRODUCT: ("the daemon cannot make the product", "ask for another"),
    Error.RECORD: ("results cannot be recorded", "free the disk; goes by itself"),
}


def block(fields: Sequence[registers.Field], base: int) -> str:
    rows = ["| offset | default address | name | registers | |", "|---|---|---|---|---|"]
    rows += [f"| {f.offset} | {base + f.offset} | `{f.name}` | {f.size} | {f.text} |" for f in fields]
    return "\n".join(rows)


def states() -> str:
    rows = ["| state | name | |", "|---|---|---|"]
    return "\n".join([*rows, *(f"| {s.value} | {_camel(s.name)} | {STATES[s]} |" for s in State)])


def errors() -> str:
    rows = ["| error_code | name | cause | what ends it |", "|---|---|---|---|"]
    return "\n".join(
        [*rows, *(f"| {e.value} | `{e.name.lower()}` | {' | '.join(ERRORS[e])} |" for e in Error)]
    )


def reasons() -> str:
    rows = ["| reason | name |", "|---|---|"]
    own = [(number, reason.value or "none") for reason, number in codes.REASONS.items()]
    both = [*own, *codes.BRIDGE_REASONS.items()]
    return "\n".join([*rows, *(f"| {number} | `{name}` |" for number, name in both)])


def _camel(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


def tables() -> dict[str, str]:
    """By what they show."""
    return {
        "inputs": block(registers.INPUTS, 0),
        "outputs": block(registers.OUTPUTS, 100),
        "states": states(),
        "errors": errors(),
        "reasons": reasons(),
    }


if __name__ == "__main__":
    for name, table in tables().items():
        print(f"<!-- {name} -->\n{table}\n")
