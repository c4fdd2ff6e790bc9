"""An engine whose runtime wants one thread: it is opened, used and closed there, whoever asks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_ad.backbone.engine import EngineIdentity, FeatureEngine, FrameEngine, ScoreEngine
from edge_ad.errors import DeviceError

T = TypeVar("T")
Engine = TypeVar("Engine", bound=FeatureEngine | ScoreEngine)


class _Call:
    """Some work, and room for what comes of it; a call that is given up leaves nothing to others."""

    __slots__ = ("answered", "error", "result", "work")

    def __init__(self, work: Callable[[], object]) -> None:
        self.work = work
        self.result: object = None
        self.error: BaseException | None = None
        self.answered = threading.Lock()
        self.answered.acquire()


class OwnerThread:
    """Runs what it is given, one after the other, and hands the result or the error back.

    A call costs two thread switches, some 10 us. Thread safe.
    """

    def __init__(self, name: str) -> None:
        self._work: SimpleQueue[_Call | None] = SimpleQueue()
        self._turn = threading.Lock()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def call(self, work: Callable[[], T]) -> T:
        """`work`'s result; raises what it raises. When the caller is interrupted, it runs all the same,
        and nobody gets its result."""
        call = _Call(work)
        with self._turn:
            if self._ended:
                raise DeviceError("the engine is closed; open another one")
            self._work.put(call)
        call.answered.acquire()  # taken by whoever made it, let go by the thread
        if call.error is not None:
            try:
                raise call.error
            finally:
                del call  # which the error's traceback would hold, and it the error
        return call.result  # type: ignore[return-value]

    def end(self) -> None:
        """End the thread after what it was given; calling it again does nothing."""
        with self._turn:
            if not self._ended:
                self._ended = True
                self._work.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (call := self._work.get()) is not None:
            try:
                call.result = call.work()
            except BaseException as error:  # noqa: BLE001 - it belongs to the caller, who waits
                call.error = error
            call.answered.release()
            del call  # or its result would live on until the next


class _Owned(Generic[Engine]):
    """What engines have in common."""

    def __init__(self, open_engine: Callable[[], Engine], name: str) -> None:
        """`open_engine` runs in the engine's thread. Raises what it raises."""
        self._owner = OwnerThread(name)
        opened: list[Engine] = []
        try:
            self._owner.call(lambda: opened.append(open_engine()))
        except BaseException:
            # Whoever is interrupted here leaves an engine that is opened all the same.
            try:
                self._owner.call(lambda: [engine.close() for engine in opened])
            finally:
                self._owner.end()
            raise
        (self._engine,) = opened
        self._closed = False
        self._infer = self._engine.infer
        self.identity: EngineIdentity = self._engine.identity
        self.input: NDArray[np.uint8] = self._engine.input

    def infer(self) -> NDArray[np.float32]:
        """What the engine's own gives."""
        return self._owner.call(self._infer)

    @property
    def local(self) -> NDArray[np.float32] | None:
        """The engine's own."""
        return self._engine.local

    def close(self) -> None:
        """Release the engine and end its thread; calling it again does nothing."""
        if not self._closed:
            self._closed = True
            try:
                self._owner.call(self._engine.close)
            finally:
                self._owner.end()


class OwnedFeatures(_Owned[FeatureEngine]):
    """A FeatureEngine in a thread of its own."""


class OwnedScorer(_Owned[ScoreEngine]):
    """A ScoreEngine in a thread of its own."""

    @property
    def cells(self) -> NDArray[np.float32] | None:
        """The engine's own."""
        return self._engine.cells

    @property
    def prepares(self) -> bool:
        """Whether the engine takes a part's frames."""
        return isinstance(self._engine, FrameEngine) and self._engine.prepares

    def take(
        self, images: Sequence[NDArray[np.uint8]], moves: Sequence[NDArray[np.float64] | None]
    ) -> None:
        """The engine's own, in the caller's thread: it only writes into memory."""
        assert isinstance(self._engine, FrameEngine)
        self._engine.take(images, moves)
