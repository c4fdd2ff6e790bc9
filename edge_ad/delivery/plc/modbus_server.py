"""Modbus-TCP where the PLC is the client: it writes and reads registers of this machine.

Both blocks are holding registers (input registers show the same), of any unit. pymodbus runs in a thread
of its own. A write of the PLC is taken over whole, so one write of the input block is one moment; with
several, the control word must come last. A read gets what the bridge said last, whole: verdict and
ResultValid of one read belong together. With several reads the status word must be read first.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Any

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from edge_ad.config.plc import ModbusServerOptions, read_options
from edge_ad.delivery.plc.fieldbus import warn_of_network
from edge_ad.delivery.plc.registers import INPUT_SIZE, OUTPUT_SIZE, decode_inputs, encode_outputs
from edge_ad.delivery.plc.signals import Inputs, Outputs
from edge_ad.delivery.plc.wake import Wake
from edge_ad.errors import ConfigError, DeliveryError

_READS, _WRITES = (3, 4), (6, 16, 22, 23)  # function codes; 23 both reads and writes


class ModbusServer:
    """A `Fieldbus`. Raises ConfigError for options that are wrong."""

    def __init__(self, options: Mapping[str, Any], where: str) -> None:
        self._options = read_options(ModbusServerOptions, options, where)
        first, second = sorted(
            [(self._options.inputs, INPUT_SIZE), (self._options.outputs, OUTPUT_SIZE)]
        )
        if first[0] + first[1] > second[0] or second[0] + second[1] > 65536:
            raise ConfigError(
                f"{where}: fieldbus.options: inputs take {INPUT_SIZE} registers, outputs {OUTPUT_SIZE}; "
                f"from {self._options.inputs} and {self._options.outputs} they overlap or end too high"
            )
        self._published = tuple(encode_outputs(Outputs(), self._options.byte_order))
        self._said: tuple[int, ...] | None = None  # by the PLC, last
        self._decoded: tuple[tuple[int, ...], Inputs] | None = None
        self._wake = Wake()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: ModbusTcpServer | None = None
        self._begun = threading.Event()
        self._problem = ""
        self._thread = threading.Thread(target=self._serve, name="modbus", daemon=True)
        self.port = 0

    def open(self) -> str:
        """Listen. Raises DeliveryError for an address that cannot be had."""
        self._thread.start()
        self._begun.wait(10.0)
        if self._problem or not self.port:
            raise DeliveryError(
                f"fieldbus.options: {self._options.host}:{self._options.port} cannot be listened on "
                f"({self._problem or 'no answer'}); stop the other program, or set another port (below "
                "1024 it needs CAP_NET_BIND_SERVICE)"
            )
        warn_of_network(self._options.host, self.port)
        return f"Modbus-TCP server at {self._options.host}:{self.port}"

    def exchange(self, outputs: Outputs) -> Inputs | None:
        """See `Fieldbus`. Raises DeliveryError where nobody serves any more."""
        if not self._thread.is_alive():
            why = self._problem or "why is not known"
            raise DeliveryError(f"Modbus-TCP server: ended ({why}); start 'edge-ad plc' anew")
        self._wake.clear()
        self._published = tuple(encode_outputs(outputs, self._options.byte_order))
        said = self._said
        if said is None:
            return None
        if self._decoded is None or self._decoded[0] is not said:
            self._decoded = said, decode_inputs(said, self._options.byte_order)
        return self._decoded[1]

    def fileno(self) -> int:
        """See `Fieldbus`."""
        return self._wake.fileno()

    def close(self) -> None:
        """Idempotent."""
        if self._thread.is_alive() and self._loop is not None and self._server is not None:
            asyncio.run_coroutine_threadsafe(self._server.shutdown(), self._loop)
            self._thread.join(5.0)
        self._wake.close()

    def _serve(self) -> None:
        try:
            asyncio.run(self._listen())
        except (RuntimeError, OSError) as error:
            self._problem = str(error)
        finally:
            self._begun.set()

    async def _listen(self) -> None:
        blocks = [
            SimData(self._options.inputs, count=INPUT_SIZE, datatype=DataType.REGISTERS),
            SimData(self._options.outputs, count=OUTPUT_SIZE, datatype=DataType.REGISTERS),
        ]
        device = SimDevice(0, simdata=blocks, action=self._access)
        self._loop = asyncio.get_running_loop()
        self._server = ModbusTcpServer(device, address=(self._options.host, self._options.port))
        await self._server.serve_forever(background=True)
        self.port = int(self._server.transport.sockets[0].getsockname()[1])
        self._begun.set()
        await self._server.serving

    async def _access(
        self,
        function: int,
        start: int,
        address: int,
        count: int,
        registers: list[int],
        values: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        """Before each read and write, in the thread of asyncio, which does nothing in between."""
        if function not in _READS + _WRITES:
            return ExcCodes.ILLEGAL_FUNCTION
        if values is None:
            at = self._options.outputs - start
            registers[at : at + OUTPUT_SIZE] = self._published
            return None
        first = self._options.inputs
        if address < first or address + count > first + INPUT_SIZE:
            return ExcCodes.ILLEGAL_ADDRESS  # the bridge's own
        at = first - start
        said = registers[at : at + INPUT_SIZE]
        said[address - first : address - first + count] = [int(v) for v in values]
        self._said = tuple(said)
        self._wake.set()
        return None
