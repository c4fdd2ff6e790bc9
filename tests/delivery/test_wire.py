from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_ad.delivery import wire
from edge_ad.delivery.wire import Header, ScoreBody
from edge_ad.errors import DeliveryError

HEADER = Header(wire.VERSION, "line1", "e1", 7, "P7", 123, 456, "valve", "ab" * 32)


def test_messages_come_back_as_they_went() -> None:
    body = ScoreBody("REJECT", "score", 3.5, 2.0, "top", 4.25, 3, [[1.0, 2.5]])
    assert wire.decode_header(wire.encode(HEADER)) == HEADER
    assert wire.decode_body(wire.encode(body)) == body


def test_numbers_that_do_not_exist_are_null() -> None:
    data = wire.encode(ScoreBody("FAULT", "not_finite", float("nan"), 2.0, distances=[[float("inf")]]))
    assert json.loads(data)["score"] is None
    assert json.loads(data)["distances"] == [[None]]


def test_unknown_fields_of_a_newer_minor_version_are_ignored() -> None:
    data = json.loads(wire.encode(HEADER))
    data.update(v="1.9", new_field=17)
    assert wire.decode_header(json.dumps(data).encode()).part == "P7"


def test_another_major_version_is_refused_with_both_sides() -> None:
    data = json.loads(wire.encode(HEADER))
    data["v"] = "2.0"
    with pytest.raises(DeliveryError, match=rf"'2\.0'.*'{wire.VERSION}'"):
        wire.decode_header(json.dumps(data).encode())


@given(st.binary(max_size=200))
def test_garbage_is_refused_in_words(data: bytes) -> None:
    for decode in (wire.decode_header, wire.decode_request, wire.decode_reply):
        with pytest.raises(DeliveryError, match="not understood"):
            decode(data)


def test_journal_line_holds_what_was_published() -> None:
    body = ScoreBody("PASS", "", 1.0, 2.0)
    line = wire.journal_line(wire.encode(HEADER), wire.encode(body))
    assert line.count(b"\n") == 1
    assert wire.read_journal_line(line) == (HEADER, body)
    with pytest.raises(DeliveryError, match="journal"):
        wire.read_journal_line(b"{}\n")
