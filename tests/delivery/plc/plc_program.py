"""Small PLC programs over Modbus: a client of our registers, and a server that has its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from types import TracebackType

from pymodbus.client import ModbusTcpClient
from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

PATIENCE_S = 60.0


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.002)


class Client:
    """A PLC that is the Modbus client."""

    def __init__(self, port: int) -> None:
        self.modbus = ModbusTcpClient("127.0.0.1", port=port, timeout=10)
        assert self.modbus.connect()

    def write(self, address: int, values: list[int]) -> None:
        answer = self.modbus.write_registers(address, values)
        assert not answer.isError(), answer

    def read(self, address: int, count: int) -> list[int]:
        answer = self.modbus.read_holding_registers(address, count=count)
        assert not answer.isError(), answer
        return list(answer.registers)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.modbus.close()


class Server:
    """A PLC that is the Modbus server: registers 0 to 299. `log` has every write: (address, values)."""

    def __init__(self, port: int = 0) -> None:
        self.registers = [0] * 300
        self.log: list[tuple[int, list[int]]] = []
        self.reads = 0
        self.port = port
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._ready.wait(PATIENCE_S)

    def close(self) -> None:
        async def end() -> None:
            await self._server.shutdown()

        asyncio.run_coroutine_threadsafe(end(), self._loop)
        self._thread.join(PATIENCE_S)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        blocks = [SimData(0, count=300, datatype=DataType.REGISTERS)]
        self._server = ModbusTcpServer(
            SimDevice(0, simdata=blocks, action=self._access), address=("127.0.0.1", self.port)
        )
        await self._server.serve_forever(background=True)
        self.port = self._server.transport.sockets[0].getsockname()[1]
        self._ready.set()
        await self._server.serving

    async def _access(
        self,
        function: int,
        start: int,
        address: int,
        count: int,
        registers: list[int],
        values: list[int] | None,
    ) -> ExcCodes | None:
        if values is None:
            self.reads += 1
            registers[:300] = self.registers
        else:
            self.log.append((address, list(values)))
            self.registers[address : address + count] = values
        return None

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
