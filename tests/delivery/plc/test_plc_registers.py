from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_ad.delivery.plc import registers
from edge_ad.delivery.plc.codes import Error, Result, State
from edge_ad.delivery.plc.registers import (
    INPUT_SIZE,
    INPUTS,
    OUTPUT_SIZE,
    OUTPUTS,
    ByteOrder,
    decode_inputs,
    decode_text,
    encode_outputs,
    encode_text,
)
from edge_ad.delivery.plc.signals import Inputs, Outputs, is_key

KEY = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=32)
ORDER = st.sampled_from(["high_first", "low_first"])


@given(KEY, ORDER)
def test_text_comes_back_whatever_the_byte_order(text: str, order: ByteOrder) -> None:
    assert decode_text(encode_text(text, order), order) == text


def test_the_first_character_is_where_the_byte_order_says() -> None:
    assert encode_text("AB", "high_first")[0] == 0x4142
    assert encode_text("AB", "low_first")[0] == 0x4241
    assert decode_text([0x4142, 0x4320, 0x2020, 0], "high_first") == "ABC"


@given(st.lists(st.integers(0, 65535), min_size=INPUT_SIZE, max_size=INPUT_SIZE), ORDER)
def test_garbage_registers_are_read_without_an_error(block: list[int], order: ByteOrder) -> None:
    inputs = decode_inputs(block, order)
    assert is_key(inputs.part) <= inputs.part.isascii()
    assert 0 <= inputs.count <= 65535


def test_what_follows_the_end_of_a_text_makes_it_no_key() -> None:
    assert not is_key(decode_text([0x4142, 0x0043, 0], "high_first"))


def test_the_block_that_the_plc_reads() -> None:
    outputs = Outputs(
        "K1", "plate", 1, 12, 13, 14, Result.REJECT, 1, State.ERROR, Error.NO_ACK,
        ready=False, busy=True, result_valid=True, error=True,
    )  # fmt: skip
    block = encode_outputs(outputs, "high_first")
    assert len(block) == OUTPUT_SIZE == 41
    place = {field.name: field.offset for field in OUTPUTS}
    assert block[place["part_key"]] == 0x4B31 and block[place["product"]] == 0x706C
    assert [block[place[n]] for n in ("map_version", "heartbeat", "trigger_echo", "result_count")] == [
        1, 12, 13, 14,
    ]  # fmt: skip
    assert [block[place[n]] for n in ("verdict", "reason", "state", "error_code")] == [2, 1, 3, 2]
    assert block[place["status"]] == registers.BUSY | registers.RESULT_VALID | registers.ERROR


def test_the_block_that_the_plc_writes() -> None:
    place = {field.name: field.offset for field in INPUTS}
    block = [0] * INPUT_SIZE
    block[place["part_key"]] = 0x4B31
    block[place["product"]] = 0x706C
    block[place["map_version"]], block[place["heartbeat"]] = 1, 9
    block[place["trigger_count"]], block[place["control"]] = 77, 1 | 2
    assert decode_inputs(block, "high_first") == Inputs("K1", "pl", 1, 9, 77, enable=True, trigger=True)
    block[place["control"]] = 4 | 8
    assert decode_inputs(block, "high_first") == Inputs("K1", "pl", 1, 9, 77, ack=True, reset=True)
