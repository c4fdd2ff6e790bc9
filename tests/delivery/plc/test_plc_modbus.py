"""The register blocks over real Modbus-TCP on loopback, as server and as client."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plc_program import Client, Server, until

from edge_ad.delivery.plc.codes import Result
from edge_ad.delivery.plc.fieldbus import make_fieldbus
from edge_ad.delivery.plc.modbus_client import ModbusClient, writes
from edge_ad.delivery.plc.modbus_server import ModbusServer
from edge_ad.delivery.plc.registers import (
    INPUT_SIZE,
    OUTPUT_SIZE,
    RESULT_VALID,
    encode_outputs,
    encode_text,
)
from edge_ad.delivery.plc.signals import Inputs, Outputs
from edge_ad.errors import ConfigError, DeliveryError

SAID = [*encode_text("K1", "high_first"), *encode_text("plate", "high_first"), 1, 7, 9, 1 | 2]
MEANT = Inputs("K1", "plate", 1, 7, 9, enable=True, trigger=True)
TOLD = Outputs("K1", "plate", results=3, verdict=Result.PASS, result_valid=True)


@pytest.fixture
def server() -> ModbusServer:
    server = ModbusServer({"port": 0}, "plc.toml")
    yield server  # type: ignore[misc]
    server.close()


def test_a_plc_writes_its_block_and_reads_ours(server: ModbusServer) -> None:
    assert "127.0.0.1" in server.open()
    assert server.exchange(TOLD) is None  # nothing was said yet
    with Client(server.port) as plc:
        plc.write(0, SAID)
        assert server.exchange(TOLD) == MEANT
        assert plc.read(100, OUTPUT_SIZE) == encode_outputs(TOLD, "high_first")
        server.exchange(replace(TOLD, heartbeat=5))
        assert plc.read(100 + 33, 1) == [5]
        input_registers = plc.modbus.read_input_registers(100 + 36, count=1)
        assert input_registers.registers == [int(Result.PASS)]


def test_a_plc_that_writes_the_key_first_and_the_control_word_last_is_understood(
    server: ModbusServer,
) -> None:
    server.open()
    with Client(server.port) as plc:
        plc.write(0, SAID[:35])
        first = server.exchange(TOLD)
        assert first == replace(MEANT, enable=False, trigger=False)
        plc.write(35, SAID[35:])
        assert server.exchange(TOLD) == MEANT


def test_the_bridges_own_registers_and_all_others_are_closed_to_the_plc(server: ModbusServer) -> None:
    server.open()
    with Client(server.port) as plc:
        for address, values in ((136, [1]), (100, [0] * OUTPUT_SIZE), (35, [1, 1]), (500, [1])):
            assert plc.modbus.write_registers(address, values).isError()
        assert plc.modbus.read_holding_registers(50, count=4).isError()
        assert plc.modbus.write_coil(0, True).isError()
        assert plc.read(136, 1) == [0]
    assert server.exchange(TOLD) is None


def test_another_plc_goes_on_where_one_has_died(server: ModbusServer) -> None:
    server.open()
    with Client(server.port) as plc:
        plc.write(0, SAID)
    assert server.exchange(TOLD) == MEANT  # its heartbeat stands still: the handshake notices that
    with Client(server.port) as plc:
        plc.write(33, [8])
        assert server.exchange(TOLD) == replace(MEANT, heartbeat=8)


def test_a_write_wakes_the_one_who_polls(server: ModbusServer) -> None:
    import select

    server.open()
    assert not select.select([server.fileno()], [], [], 0)[0]
    with Client(server.port) as plc:
        plc.write(0, SAID)
        assert select.select([server.fileno()], [], [], 60)[0]
        server.exchange(TOLD)
        assert not select.select([server.fileno()], [], [], 0)[0]


def test_a_server_that_has_ended_is_no_plc_that_is_silent(server: ModbusServer) -> None:
    server.open()
    server.close()
    with pytest.raises(DeliveryError, match="start 'edge-ad plc' anew"):
        server.exchange(TOLD)


def test_garbage_on_the_port_harms_nobody(server: ModbusServer) -> None:
    server.open()
    for data in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 300, b"\0\1\0\0\0\xff\1"):
        with socket.create_connection(("127.0.0.1", server.port)) as raw:
            raw.sendall(data)
    with Client(server.port) as plc:
        plc.write(0, SAID)
        assert server.exchange(TOLD) == MEANT


def test_a_port_that_is_taken_is_named(server: ModbusServer) -> None:
    server.open()
    second = ModbusServer({"port": server.port}, "plc.toml")
    with pytest.raises(DeliveryError, match=f"127.0.0.1:{server.port} cannot be listened on"):
        second.open()
    second.close()


def test_we_poll_a_plc_that_is_the_server() -> None:
    with Server() as plc:
        plc.registers[0:INPUT_SIZE] = SAID
        client = ModbusClient({"host": "127.0.0.1", "port": plc.port}, "plc.toml")
        assert str(plc.port) in client.open()
        try:
            until(lambda: client.exchange(TOLD) == MEANT)
            until(lambda: plc.registers[100:141] == encode_outputs(TOLD, "high_first"))
            # ResultValid came last, and was never beside something else.
            seen = [0] * 41
            for address, values in plc.log:
                seen[address - 100 : address - 100 + len(values)] = values
                if seen[40] & RESULT_VALID:
                    assert seen[:36] == encode_outputs(TOLD, "high_first")[:36]
        finally:
            client.close()


def test_we_look_for_a_plc_that_went_away_until_it_is_back() -> None:
    plc = Server()
    plc.registers[0:INPUT_SIZE] = SAID
    client = ModbusClient({"host": "127.0.0.1", "port": plc.port, "timeout_ms": 300.0}, "plc.toml")
    client.open()
    try:
        until(lambda: client.exchange(TOLD) == MEANT)
        plc.close()
        until(lambda: client.exchange(TOLD) is None)
        with Server(plc.port) as again:
            again.registers[0:INPUT_SIZE] = SAID
            until(lambda: client.exchange(TOLD) == MEANT)
            until(lambda: again.registers[100:141] == encode_outputs(TOLD, "high_first"))
    finally:
        client.close()


def test_a_plc_that_is_not_there_or_refuses_is_said_once_with_its_address(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        client = ModbusClient({"host": "127.0.0.1", "port": free.getsockname()[1]}, "plc.toml")
        client.open()
        until(lambda: "no connection; is it on" in caplog.text)
        client.close()
    caplog.clear()
    with Server() as plc:  # which has registers 0 to 299
        client = ModbusClient({"host": "127.0.0.1", "port": plc.port, "outputs": 290}, "plc.toml")
        client.open()
        until(lambda: plc.reads > 3)  # once a connection
        client.close()
    assert caplog.text.count(f"PLC 127.0.0.1:{plc.port}: Modbus Error: the PLC refuses") == 1


def test_an_address_of_the_network_is_said_to_have_no_protection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for host, said in (("127.0.0.1", False), ("0.0.0.0", True)):
        caplog.clear()
        server = ModbusServer({"host": host, "port": 0}, "plc.toml")
        server.open()
        server.close()
        assert (f"Modbus-TCP at {host}:{server.port} has no protection" in caplog.text) is said


OUTPUTS = st.builds(
    Outputs,
    part=st.sampled_from(["A", "B"]),
    results=st.integers(0, 3),
    verdict=st.sampled_from(Result),
    heartbeat=st.integers(0, 2),
    ready=st.booleans(),
    result_valid=st.booleans(),
)


@given(st.lists(OUTPUTS, min_size=1, max_size=6))
def test_in_whatever_order_results_follow_none_is_seen_beside_anothers_key(
    images: list[Outputs],
) -> None:
    blocks = [encode_outputs(image, "high_first") for image in images]
    told = {(*b[:16], b[35], b[36]) for b in blocks if b[40] & RESULT_VALID}
    seen, before = [0] * 41, None
    for block in blocks:
        for offset, values in writes(before, block):
            seen[offset : offset + len(values)] = values
            assert not seen[40] & RESULT_VALID or (*seen[:16], seen[35], seen[36]) in told
            assert not seen[40] & RESULT_VALID or block[40] & RESULT_VALID
        assert seen == block
        before = block


@pytest.mark.parametrize(
    "kind, options, message",
    [
        ("profinet", {}, "'profinet' is none of"),
        ("nowhere.to.be:Found", {}, "cannot import nowhere"),
        ("edge_ad.errors:Nothing", {}, "has no 'Nothing'"),
        ("modbus-server", {"port": 70000}, r"fieldbus.options.port: .*70000"),
        ("modbus-server", {"prot": 1}, "prot"),
        ("modbus-server", {"inputs": 80, "outputs": 100}, "overlap"),
        ("modbus-client", {}, "host"),
    ],
)
def test_a_wrong_fieldbus_is_refused_with_its_key(
    kind: str, options: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        make_fieldbus(kind, options, str(tmp_path / "plc.toml"))
    assert "plc.toml" in str(refused.value)


def test_the_kinds_that_come_with_it_are_made() -> None:
    for kind, options in (("modbus-server", {"port": 0}), ("modbus-client", {"host": "127.0.0.1"})):
        make_fieldbus(kind, options, "plc.toml").close()
