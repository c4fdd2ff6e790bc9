"""Modbus-TCP where the PLC is the server: its registers are polled, in a thread of its own.

The input block is read in one request. What is to be seen is written in two: first everything but the
status word, then the status word, so ResultValid rises after the result that it is about is there; where
it falls, or another result takes the place of one, the status word is written first. Requests of one
connection are answered in order.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.pdu import ModbusPDU

from edge_ad.config.plc import ModbusClientOptions, read_options
from edge_ad.delivery.plc.fieldbus import warn_of_network
from edge_ad.delivery.plc.registers import (
    INPUT_SIZE,
    RESULT_VALID,
    decode_inputs,
    encode_outputs,
)
from edge_ad.delivery.plc.signals import Inputs, Outputs
from edge_ad.delivery.plc.wake import Wake

log = logging.getLogger(__name__)
BACKOFF_S = (0.1, 2.0)


class ModbusClient:
    """A `Fieldbus`. Raises ConfigError for options that are wrong."""

    def __init__(self, options: Mapping[str, Any], where: str) -> None:
        self._options = read_options(ModbusClientOptions, options, where)
        self._published = tuple(encode_outputs(Outputs(), self._options.byte_order))
        self._said: tuple[int, ...] | None = None
        self._talked = False  # the PLC took what it was told, on this connection
        self._wake = Wake()
        self._stop = threading.Event()
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._poll, name="modbus", daemon=True)

    def open(self) -> str:
        """Begin to look for the PLC."""
        warn_of_network(self._options.host, self._options.port)
        self._thread.start()
        return f"Modbus-TCP client of {self._options.host}:{self._options.port}"

    def exchange(self, outputs: Outputs) -> Inputs | None:
        """See `Fieldbus`."""
        self._wake.clear()
        self._published = tuple(encode_outputs(outputs, self._options.byte_order))
        said = self._said
        return None if said is None else decode_inputs(said, self._options.byte_order)

    def fileno(self) -> int:
        """See `Fieldbus`."""
        return self._wake.fileno()

    def close(self) -> None:
        """Idempotent."""
        self._stop.set()
        if self._loop is not None and self._task is not None and self._thread.is_alive():
            with suppress(RuntimeError):  # the loop has ended meanwhile
                self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join(5.0)
        self._wake.close()

    def _poll(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._stay_connected())
        with suppress(asyncio.CancelledError):
            await self._task

    async def _stay_connected(self) -> None:
        pause, told = BACKOFF_S[0], False
        while not self._stop.is_set():
            client = AsyncModbusTcpClient(
                self._options.host, port=self._options.port, timeout=self._options.timeout_ms / 1000,
                retries=0, reconnect_delay=0,
            )  # fmt: skip
            try:
                if not await client.connect():
                    raise ModbusException("no connection; is it on, and are host and port right?")
                await self._talk(client)
            except Exception as error:  # noqa: BLE001 - the thread's top: the PLC is looked for again
                if self._talked:
                    pause, told = BACKOFF_S[0], False
                if not told:
                    log.warning("PLC %s:%d: %s", self._options.host, self._options.port, error)
                told = True
            finally:
                self._said, self._talked = None, False
                client.close()
            await asyncio.sleep(pause)
            pause = min(2 * pause, BACKOFF_S[1])

    async def _talk(self, client: AsyncModbusTcpClient) -> None:
        unit, written = self._options.unit, None
        while not self._stop.is_set():
            read = await client.read_holding_registers(
                self._options.inputs, count=INPUT_SIZE, device_id=unit
            )
            said = tuple(_checked(read).registers)
            if len(said) != INPUT_SIZE:
                raise ModbusException(f"answered {len(said)} of {INPUT_SIZE} registers")
            if said != self._said:
                self._said = said
                self._wake.set()
            published = self._published
            for offset, values in writes(written, published):
                address = self._options.outputs + offset
                _checked(await client.write_registers(address, list(values), device_id=unit))
            written, self._talked = published, True
            await asyncio.sleep(self._options.poll_ms / 1000)


def writes(before: Sequence[int] | None, after: Sequence[int]) -> list[tuple[int, Sequence[int]]]:
    """What to write so that ResultValid never stands beside another part's result: (offset, values) in
    order. `before`: what the PLC has, None for unknown."""
    last = len(after) - 1
    data, status = (0, after[:last]), (last, after[last:])
    if before is None:
        return [(last, [0]), data, status]
    changed = tuple(before[:last]) != tuple(after[:last])
    if not changed:
        return [] if before[last] == after[last] else [status]
    if not after[last] & RESULT_VALID:
        return [status, data] if before[last] & RESULT_VALID else [data, status]
    if before[last] & RESULT_VALID and _result(before) != _result(after):
        return [(last, [after[last] & ~RESULT_VALID]), data, status]
    return [data, status]


def _result(block: Sequence[int]) -> tuple[int, ...]:
    """What tells one result from another: key and number."""
    return (*block[:16], block[35])


def _checked(answer: ModbusPDU) -> ModbusPDU:
    if answer.isError():
        raise ModbusException(f"the PLC refuses: {answer}; are its register blocks at these addresses?")
    return answer
