"""The handshake with a PLC, as rules alone: no clock, no socket, no thread.

    Ready up -> Trigger up -> Busy up -> Trigger down -> ResultValid up -> Ack up -> ResultValid down
    -> Ack down -> Ready up

PASS is shown only for a live PASS of the daemon for exactly the key of a trigger that it accepted, in
time, while no Error stands. Every accepted trigger ends in exactly one result. An Error turns every part
that is under way or waits for Ack into FAULT, for good. For one thread.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

from edge_ad.delivery.plc import codes
from edge_ad.delivery.plc.codes import MAP_VERSION, Error, Result, State
from edge_ad.delivery.plc.signals import Inputs, Outputs, is_key
from edge_ad.delivery.wire import Header, ScoreBody

_LAST = 0xFFFF


@dataclass(frozen=True, slots=True)
class Timing:
    """Times in ns; how many parts may be under way or wait for Ack; how many keys are remembered."""

    deadline_ns: int = 500_000_000  # from Trigger to ResultValid
    ack_ns: int = 2_000_000_000  # from a result to its Ack
    plc_ns: int = 1_000_000_000  # the PLC's heartbeat changes within
    beat_ns: int = 100_000_000  # between two changes of our heartbeat
    depth: int = 1
    keys: int = 100_000


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell the daemon of a part. `product`: what the PLC asks for; "": whatever is being made."""

    part: str
    product: str
    count: int


@dataclass(frozen=True, slots=True)
class AskProduct:
    """Have the daemon make another product."""

    product: str


@dataclass(frozen=True, slots=True)
class Shown:
    """A result was put before the PLC, so many ns after its trigger."""

    part: str
    verdict: Result
    reason: int
    took_ns: int


@dataclass(frozen=True, slots=True)
class Closed:
    """The one end of an accepted trigger. `acknowledged`: the PLC took the result; else Reset
    withdrew it."""

    part: str
    count: int
    verdict: Result
    reason: int
    acknowledged: bool


@dataclass(frozen=True, slots=True)
class Raised:
    """An Error came up. `part`: the key that stood beside it, if it is about a trigger."""

    error: Error
    part: str


Action = Announce | AskProduct | Shown | Closed | Raised


@dataclass(frozen=True, slots=True)
class _Part:
    part: str
    count: int
    product: str
    since_ns: int
    deadline_ns: int


@dataclass(frozen=True, slots=True)
class _Outcome:
    part: _Part
    verdict: Result
    reason: int
    ready_ns: int


class Handshake:
    """One PLC's handshake. Call `step` with what the PLC says at least every few milliseconds, and hand
    in what the daemon says between; `take` returns what is to be done."""

    def __init__(self, timing: Timing = Timing()) -> None:
        self._timing = timing
        self._inputs = Inputs(trigger=True, ack=True, reset=True)  # what is up at first is no edge
        self._outputs = Outputs()
        self._pending: dict[str, _Part] = {}
        self._early: dict[str, tuple[Header, ScoreBody] | None] = {}  # not accepted or refused yet
        self._results: deque[_Outcome] = deque()
        self._showing: _Outcome | None = None
        self._keys: dict[str, None] = {}
        self._errors: dict[Error, None] = {}  # latched and standing, in the order in which they came
        self._actions: list[Action] = []
        self._count: int | None = None
        self._held = False  # Trigger of the part that was accepted last is still up
        self._heard_ns: int | None = None  # when the PLC's heartbeat changed last
        self._beat: int | None = None
        self._beaten_ns = 0
        self._epoch = ""
        self._linked = False
        self._product = ""
        self._asked = ""
        self._now = 0

    # From the daemon.

    def link_up(self, epoch: str, product: str, now_ns: int) -> None:
        """The daemon is there. What another life of it was to say of a part never comes."""
        self._now = now_ns
        if self._epoch not in ("", epoch):
            self._fail_pending(codes.LINK)
        self._epoch, self._linked, self._product, self._asked = epoch, True, product, ""
        self._errors.pop(Error.DAEMON_LINK, None)
        self._errors.pop(Error.PRODUCT, None)

    def link_down(self, now_ns: int) -> None:
        """The daemon is not heard any more."""
        self._now = now_ns
        self._linked = False
        self._fail_pending(codes.LINK)
        self._raise(Error.DAEMON_LINK)

    def product_is(self, product: str) -> None:
        """What the daemon makes from now on."""
        if product != self._product:
            self._product, self._asked = product, ""
        if product == self._inputs.product:
            self._errors.pop(Error.PRODUCT, None)

    def product_refused(self, product: str, now_ns: int) -> None:
        """The daemon does not make this product."""
        self._now = now_ns
        if product == self._inputs.product:
            self._raise(Error.PRODUCT)

    def recording(self, works: bool, now_ns: int) -> None:
        """Whether results can be recorded."""
        self._now = now_ns
        if works:
            self._errors.pop(Error.RECORD, None)
        else:
            self._raise(Error.RECORD)

    def replied(self, part: str, accepted: bool, reason: str, now_ns: int) -> None:
        """The daemon's answer to an announcement."""
        self._now = now_ns
        if (early := self._early.pop(part, None)) is not None and accepted:
            self.delivered(*early, True, now_ns)
        elif not accepted and part in self._pending:
            code = codes.reason_code(reason)
            code = codes.NOT_ANNOUNCED if code in (0, codes.UNKNOWN) else code
            self._finish(self._pending[part], Result.FAULT, code)

    def delivered(self, header: Header, body: ScoreBody, live: bool, now_ns: int) -> bool:
        """A verdict; whether it was about a part under way. One that is told again never is. It waits
        until the daemon has accepted the part: it may be of an earlier one with the same key."""
        self._now = now_ns
        part = self._pending.get(header.part)
        if part is None or not live or header.epoch != self._epoch:
            return False
        if header.part in self._early:
            self._early[header.part] = header, body
            return True
        if now_ns > part.deadline_ns:
            self._finish(part, Result.FAULT, codes.LATE)
        elif header.advisory:
            self._finish(part, Result.FAULT, codes.ADVISORY)
        elif part.product not in ("", header.product):
            self._finish(part, Result.FAULT, codes.OTHER_PRODUCT)
        elif body.verdict == "PASS" and not body.reason:
            self._finish(part, Result.PASS, 0)
        else:
            verdict = Result.REJECT if body.verdict == "REJECT" else Result.FAULT
            self._finish(part, verdict, codes.reason_code(body.reason) or codes.UNKNOWN)
        return True

    # From and to the PLC.

    def step(self, inputs: Inputs | None, now_ns: int) -> Outputs:
        """What the PLC is told, given what it says; None: nothing was heard of it."""
        self._now = now_ns
        if inputs is not None:
            self._listen(inputs)
        self._watch_heartbeat()
        for part in [p for p in self._pending.values() if now_ns > p.deadline_ns]:
            self._finish(part, Result.FAULT, codes.LATE)
        waiting = self._showing or (self._results[0] if self._results else None)
        if waiting is not None and now_ns - waiting.ready_ns > self._timing.ack_ns:
            self._raise(Error.NO_ACK)
        if not self._linked:
            self._raise(Error.DAEMON_LINK)
        if self._errors:
            self._spoil()
        self._show()
        self._outputs = self._tell()
        return self._outputs

    def take(self) -> list[Action]:
        """What is to be done since the last call, in order."""
        actions, self._actions = self._actions, []
        return actions

    @property
    def alive(self) -> bool:
        """Whether the PLC's heartbeat changes."""
        return self._heard_ns is not None and self._now - self._heard_ns <= self._timing.plc_ns

    def _listen(self, inputs: Inputs) -> None:
        before, self._inputs = self._inputs, inputs
        if inputs.heartbeat != self._beat:
            if self._beat is not None:
                self._heard_ns = self._now
            self._beat = inputs.heartbeat
        if self.alive and inputs.map_version != MAP_VERSION:
            self._raise(Error.MAP_MISMATCH)
        elif inputs.map_version == MAP_VERSION:
            self._errors.pop(Error.MAP_MISMATCH, None)
        if inputs.reset and not before.reset:
            self._reset()
        if self._showing is not None and inputs.ack:
            self._close(self._showing, acknowledged=True)
            self._showing = None
            if self._results:  # its time begins now
                self._results[0] = replace(self._results[0], ready_ns=self._now)
        if inputs.trigger and not before.trigger:
            self._accept(inputs)
        self._held = self._held and inputs.trigger
        self._ask_product(inputs.product, before.product)

    def _ask_product(self, product: str, before: str) -> None:
        if product != before:
            self._errors.pop(Error.PRODUCT, None)
        if product and self._linked and product not in (self._product, self._asked):
            self._asked = product
            self._actions.append(AskProduct(product))

    def _watch_heartbeat(self) -> None:
        if self._heard_ns is not None and not self.alive:
            self._raise(Error.PLC_HEARTBEAT)
            self._heard_ns = None

    def _accept(self, inputs: Inputs) -> None:
        expected = None if self._count is None else (self._count + 1) & _LAST
        self._count = inputs.count
        error = Error.NONE
        if not self._outputs.ready:
            error = Error.TRIGGER_NOT_READY
        elif expected not in (None, inputs.count):
            error = Error.COUNT_MISMATCH
        elif not is_key(inputs.part):
            error = Error.BAD_KEY
        elif inputs.part in self._keys:
            error = Error.KEY_REUSED
        if error:
            self._errors.pop(error, None)  # told of each part
            self._raise(error, inputs.part)
            return
        deadline_ns = self._now + self._timing.deadline_ns
        part = _Part(inputs.part, inputs.count, inputs.product, self._now, deadline_ns)
        self._keys[inputs.part] = None
        if len(self._keys) > self._timing.keys:
            del self._keys[next(iter(self._keys))]
        self._pending[inputs.part] = part
        self._held = True
        self._outputs = replace(self._outputs, trigger_echo=inputs.count)
        if not self._linked:
            self._finish(part, Result.FAULT, codes.LINK)
        else:
            self._early[part.part] = None
            self._actions.append(Announce(part.part, part.product, part.count))

    def _reset(self) -> None:
        """What is under way or waits for Ack is withdrawn; errors go whose cause is gone."""
        self._fail_pending(codes.HANDSHAKE)
        self._spoil()
        for outcome in (*([self._showing] if self._showing else []), *self._results):
            self._close(outcome, acknowledged=False)
        self._showing = None
        self._results.clear()
        self._count = None
        self._errors = {error: None for error in self._errors if not error.latched}

    def _raise(self, error: Error, part: str = "") -> None:
        if error not in self._errors:
            self._errors[error] = None
            self._actions.append(Raised(error, part))

    def _spoil(self) -> None:
        """Nothing that the PLC has not taken passes any more."""
        self._fail_pending(codes.HANDSHAKE)
        self._results = deque(_spoiled(outcome) for outcome in self._results)
        if self._showing is not None:
            self._showing = _spoiled(self._showing)

    def _fail_pending(self, reason: int) -> None:
        for part in list(self._pending.values()):
            self._finish(part, Result.FAULT, reason)

    def _finish(self, part: _Part, verdict: Result, reason: int) -> None:
        del self._pending[part.part]
        self._early.pop(part.part, None)
        self._results.append(_Outcome(part, verdict, reason, self._now))

    def _close(self, outcome: _Outcome, acknowledged: bool) -> None:
        part = outcome.part
        self._actions.append(
            Closed(part.part, part.count, outcome.verdict, outcome.reason, acknowledged)
        )

    def _show(self) -> None:
        if self._showing is not None or not self._results or self._inputs.ack:
            return
        outcome = self._results.popleft()
        part = outcome.part
        if outcome.verdict is not Result.FAULT and self._now > part.deadline_ns:
            outcome = replace(outcome, verdict=Result.FAULT, reason=codes.LATE)
        self._showing = outcome
        self._outputs = replace(self._outputs, results=(self._outputs.results + 1) & _LAST)
        self._actions.append(
            Shown(part.part, outcome.verdict, outcome.reason, self._now - part.since_ns)
        )

    def _tell(self) -> Outputs:
        beat = self._outputs.heartbeat
        if self._now - self._beaten_ns >= self._timing.beat_ns:
            beat, self._beaten_ns = (beat + 1) & _LAST, self._now
        showing = self._showing
        error = next((e for e in self._errors if e.latched), next(iter(self._errors), Error.NONE))
        state = self._state()
        return Outputs(
            part=showing.part.part if showing else "",
            product=self._product if self._linked else "",
            heartbeat=beat,
            trigger_echo=self._outputs.trigger_echo,
            results=self._outputs.results,
            verdict=showing.verdict if showing else Result.FAULT if error else Result.NONE,
            reason=showing.reason if showing else codes.HANDSHAKE if error else 0,
            state=state,
            error_code=error,
            ready=self._ready(),
            busy=self._held or bool(self._pending),
            result_valid=showing is not None,
            error=bool(error),
        )

    def _under_way(self) -> int:
        return len(self._pending) + len(self._results) + (self._showing is not None)

    def _ready(self) -> bool:
        said = self._inputs
        return (
            self.alive
            and not self._errors
            and said.enable
            and said.product in ("", self._product)
            and not (said.trigger or said.reset)
            and not (said.ack and self._timing.depth == 1)
            and self._under_way() < self._timing.depth
        )

    def _state(self) -> State:
        if self._errors:
            return State.ERROR
        if not self.alive:
            return State.PREOPERATIONAL
        if not self._inputs.enable:
            return State.HALTED
        if self._under_way():
            one = self._timing.depth == 1
            return State.SINGLE_EXECUTION if one else State.CONTINUOUS_EXECUTION
        return State.READY if self._ready() else State.INITIALIZED


def _spoiled(outcome: _Outcome) -> _Outcome:
    if outcome.verdict is Result.FAULT:
        return outcome
    return replace(outcome, verdict=Result.FAULT, reason=codes.HANDSHAKE)
