"""The runtime: a plan with its tensors checked, bound to device memory that somebody else owns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge_ad.backbone.engine import EngineIdentity
from edge_ad.backbone.spec import Backbone
from edge_ad.backbone.tensorrt.log import Messages
from edge_ad.errors import ArtifactError, DeviceError

ALIGNMENT = 256  # bytes, of every address that TensorRT is given
_DTYPES = {"uint8": "UINT8", "float32": "FLOAT"}  # as TensorRT's DataType names them
_BYTES = {"uint8": 1, "float32": 4}


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of an engine; row-major and dense."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    is_input: bool

    @property
    def nbytes(self) -> int:
        """What its memory must hold at least."""
        count = 1
        for side in self.shape:
            count *= side
        return count * _BYTES[self.dtype]


def engine_tensors(backbone: Backbone, batch: int, local_dim: int) -> tuple[Tensor, ...]:
    """What an engine of this backbone has: uint8 `image` [B, H, W, 3], float32 `pooled` [B, D] and,
    where `local_dim` is not 0, `local` [B, P, local_dim]."""
    tensors = (
        Tensor("image", (batch, backbone.height, backbone.width, 3), "uint8", True),
        Tensor("pooled", (batch, backbone.dim), "float32", False),
    )
    if not local_dim or backbone.local is None:
        return tensors
    shape = (batch, backbone.local.positions, local_dim)
    return (*tensors, Tensor("local", shape, "float32", False))


class TensorRtBackbone:
    """An engine and its one execution context. One thread uses it, with its CUDA context current.

    Look for a driver first (`cuda.driver.read_driver`): without one TensorRT's Runtime ends the process.
    `enqueue` may be captured into a CUDA graph after it has run once; addresses must stay then.
    """

    capturable = True

    def __init__(
        self,
        trt: Any,
        log: Any,
        messages: Messages,
        plan: bytes,
        tensors: tuple[Tensor, ...],
        where: str,
        identity: EngineIdentity,
    ) -> None:
        """Load `plan`, as `cache.read_plan` verified it. `trt` is the library's module, `log` and
        `messages` what `log.make_log` gave, `where` names the plan in messages, `identity` in bundles.

        Raises ArtifactError when TensorRT refuses the plan or its tensors are not `tensors`, DeviceError
        when the runtime or the context cannot be made (as without memory for it).
        """
        self._context: Any = None
        self._engine: Any = None
        self._bound: set[str] = set()
        self._messages, self._where, self.tensors = messages, where, tensors
        self.identity = identity
        messages.listen()
        self._runtime: Any = self._made(trt.Runtime(log), "Runtime")
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise ArtifactError(
                f"{where}: TensorRT refuses the engine: {messages.last_error()}; remove it and give "
                "'edge-ad backbone build' again"
            )
        self._check(trt)
        self._context = self._made(self._engine.create_execution_context(), "create_execution_context")
        for tensor in tensors:
            if tensor.is_input:
                self._done(self._context.set_input_shape(tensor.name, tensor.shape), "set_input_shape")

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of its tensors, by name."""
        return {tensor.name: tensor.shape for tensor in self.tensors}

    @property
    def memory_bytes(self) -> int:
        """Device memory that the context holds for activations, beside the weights."""
        return int(self._open("memory_bytes", self._engine).device_memory_size_v2)

    def bind(self, addresses: Mapping[str, int]) -> None:
        """Tell where every tensor lies: device addresses by name, ALIGNMENT-aligned, with `nbytes` each.

        Raises DeviceError for a missing, unknown, null or misaligned address, or when TensorRT refuses.
        """
        context = self._open("bind", self._context)
        names = {tensor.name for tensor in self.tensors}
        if set(addresses) != names:
            raise DeviceError(
                f"{self._where}: bind got {sorted(addresses)}, the engine has {sorted(names)}; give all "
                "of them and no other"
            )
        for name, address in addresses.items():
            if address <= 0 or address % ALIGNMENT:
                raise DeviceError(
                    f"{self._where}: address {address:#x} of {name!r} is not a multiple of "
                    f"{ALIGNMENT}; give the start of a device allocation"
                )
            self._done(context.set_tensor_address(name, address), f"set_tensor_address of {name!r}")
        self._bound = names

    def enqueue(self, stream: int) -> None:
        """Queue one pass on a CUDA stream (its handle; not the default one, 0) and return at once.

        Raises DeviceError when something is not bound or TensorRT refuses. Errors of the device itself
        come when the stream is waited for.
        """
        context = self._open("enqueue", self._context)
        if not self._bound:
            raise DeviceError(f"{self._where}: enqueue before bind; bind the tensors first")
        if not stream:
            raise DeviceError(
                f"{self._where}: enqueue on the default stream, on which TensorRT waits for the device; "
                "make a stream"
            )
        self._done(context.execute_async_v3(stream), "execute_async_v3")

    def close(self) -> None:
        """Release context, engine and runtime, in this order; calling it again does nothing. The stream
        must be idle."""
        self._messages.listen()
        self._context = None
        self._engine = None
        self._runtime = None
        self._bound = set()

    def _check(self, trt: Any) -> None:
        """Names, shapes, types and directions of the engine's tensors are those of backbone.json."""
        engine = self._engine
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        found = {
            name: (
                tuple(engine.get_tensor_shape(name)),
                engine.get_tensor_dtype(name).name,
                engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT,
            )
            for name in names
        }
        wanted = {t.name: (t.shape, _DTYPES[t.dtype], t.is_input) for t in self.tensors}
        for name in sorted(found.keys() | wanted.keys()):
            if found.get(name) != wanted.get(name):
                self.close()
                raise ArtifactError(
                    f"{self._where}: tensor {name!r} of the engine is {_told(found.get(name))}, "
                    f"backbone.json says {_told(wanted.get(name))}; give 'edge-ad backbone build' again"
                )

    def _open(self, what: str, part: Any) -> Any:
        self._messages.listen()
        if part is None:
            raise DeviceError(f"{self._where}: {what} on a closed engine; open another one")
        return part

    def _made(self, made: Any, what: str) -> Any:
        if made is None:
            self.close()
            raise DeviceError(
                f"{self._where}: TensorRT cannot make its {what}: {self._messages.last_error()}; see "
                "with nvidia-smi or tegrastats whether the card has memory left"
            )
        return made

    def _done(self, done: bool, what: str) -> None:
        if not done:
            raise DeviceError(
                f"{self._where}: {what} failed: {self._messages.last_error()}; build the engine again "
                "if it stays"
            )


def _told(tensor: tuple[tuple[int, ...], str, bool] | None) -> str:
    if tensor is None:
        return "none"
    shape, dtype, is_input = tensor
    return f"{'input' if is_input else 'output'} {dtype} {list(shape)}"
