"""What TensorRT says, in the hands of whoever was using it: one logger for the whole process."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from typing import Any

import pytest

from edge_ad.backbone.tensorrt.engine import TensorRtBackbone
from edge_ad.backbone.tensorrt.library import Library
from edge_ad.backbone.tensorrt.log import Messages, make_log
from edge_ad.errors import DeviceError

GARBAGE = b"no graph"


def parse(library: Library, log: Any) -> None:
    """Have the library say something."""
    module = library.module
    network = module.Builder(log).create_network(library.strongly_typed)
    assert not module.OnnxParser(network, log).parse(GARBAGE)


def test_the_logger_outlives_whoever_was_first(rtx: Library) -> None:
    """TensorRT keeps the first one, and does not hold it."""
    log, messages = make_log(rtx.module)
    first, heard = weakref.ref(log), weakref.ref(messages)
    del log, messages
    again, others = make_log(rtx.module)
    gc.collect()
    assert again is first()
    assert heard() is None  # but what it heard is not kept
    parse(rtx, again)
    assert others.errors


def test_each_thread_hears_what_it_did(rtx: Library, caplog: pytest.LogCaptureFixture) -> None:
    log, mine = make_log(rtx.module)
    found: list[Messages] = []

    def elsewhere() -> None:
        also, messages = make_log(rtx.module)
        assert also is log
        parse(rtx, also)
        found.append(messages)

    thread = threading.Thread(target=elsewhere)
    with caplog.at_level(logging.ERROR):
        thread.start()
        thread.join()
    (theirs,) = found
    assert theirs.errors
    assert mine.errors == []
    assert [" ".join(text.split()) for text in caplog.messages] == theirs.errors  # once


def test_what_a_thread_of_the_librarys_own_says_is_for_everybody(rtx: Library) -> None:
    log, one = make_log(rtx.module)
    _, two = make_log(rtx.module)
    error = rtx.module.ILogger.Severity.ERROR
    thread = threading.Thread(target=log.log, args=(error, "from within"))
    thread.start()
    thread.join()
    log.log(error, "from here")
    assert (one.errors, two.errors) == (["from within"], ["from within", "from here"])


def test_an_engine_listens_whenever_it_is_used(rtx: Library) -> None:
    """Engines that share a thread: a check of one, then another that runs."""
    log, messages = make_log(rtx.module)
    engine = TensorRtBackbone.__new__(TensorRtBackbone)
    engine._messages, engine._where = messages, "engine.plan"
    _, later = make_log(rtx.module)
    error = rtx.module.ILogger.Severity.ERROR

    class Context:
        def execute_async_v3(self, stream: int) -> bool:
            log.log(error, f"stream {stream} fails")
            return False

    engine._context, engine._bound = Context(), {"image"}
    with pytest.raises(DeviceError, match="execute_async_v3 failed: stream 5 fails"):
        engine.enqueue(5)
    assert later.errors == []
