"""`backbone.onnx` as PyTorch operations: what the exporter writes, one function each.

A graph that runs from top to bottom, its constants folded when it is read. The batch is what comes in.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge_ad.backbone.torch_operations import NUMBERS, OPERATIONS, Attributes, Operation
from edge_ad.errors import ArtifactError, ConfigError


@dataclass(frozen=True, slots=True)
class _Step:
    """One node. An input is the name of what is computed, or a constant: a tensor, None for one that is
    not given. `dead` names what nobody needs after it, so that its memory is free again."""

    run: Operation
    inputs: tuple[Any, ...]
    output: str
    attributes: Attributes
    dead: tuple[str, ...]


class TorchGraph:
    """Callable: uint8 [B, H, W, 3] tensor on `device` -> the outputs asked for, float32, by name.

    A call copies nothing between the CPU and the device, and does not wait for it.
    """

    def __init__(self, path: Path, device: str) -> None:
        """Raises ConfigError without PyTorch, ArtifactError for a file or an operation that is not
        understood."""
        self.torch, onnx = libraries()
        from google.protobuf.message import DecodeError  # comes with onnx

        try:
            model = onnx.load(str(path))
        except (OSError, DecodeError) as error:
            raise ArtifactError(f"{path}: not a readable ONNX file: {error}; export it again") from error
        graph = model.graph
        self._device = device
        self._input = graph.input[0].name
        self._outputs = [output.name for output in graph.output]
        constants = {
            tensor.name: self.torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy())
            for tensor in graph.initializer
        }
        self._steps = self._freeing(self._read(graph.node, constants, onnx, path))

    def __call__(self, image: Any) -> dict[str, Any]:
        """Run the graph; the outputs are new tensors."""
        values = {self._input: image}
        for step in self._steps:
            given = [values[one] if isinstance(one, str) else one for one in step.inputs]
            values[step.output] = step.run(self.torch, given, step.attributes)
            for name in step.dead:
                del values[name]
        return {name: values[name] for name in self._outputs}

    def _attribute(self, onnx: Any, attribute: Any) -> Any:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, onnx.TensorProto):
            return self.torch.from_numpy(onnx.numpy_helper.to_array(value).copy())
        return value

    def _placed(self, tensor: Any) -> Any:
        """On the device, laid out before it goes there: that is a copy and no kernel."""
        if tensor.is_floating_point() and tensor.ndim == 4:
            tensor = tensor.contiguous(memory_format=self.torch.channels_last)
        return tensor.to(self._device)

    def _read(self, nodes: Any, constants: dict[str, Any], onnx: Any, path: Path) -> list[_Step]:
        """The steps that depend on the picture; the others are done here."""
        steps: list[_Step] = []
        numbers: set[str] = set()  # shapes of what is computed, and what is made of them: with the CPU
        placed: dict[str, Any] = {}
        for node in nodes:
            attributes = {a.name: self._attribute(onnx, a) for a in node.attribute}
            run = OPERATIONS.get(node.op_type)
            if run is None or node.domain not in ("", "ai.onnx"):
                raise ArtifactError(
                    f"{path}: the torch engine does not know the operation {node.op_type!r} "
                    f"({node.name}); use engine.kind = 'openvino'"
                )
            output, read = node.output[0], NUMBERS.get(node.op_type, ())
            given = [constants.get(name) for name in node.input]
            computed = [name for name in node.input if name and name not in constants]
            if not computed:
                constants[output] = run(self.torch, given, attributes)
                continue
            tensors = {name for i, name in enumerate(node.input) if i not in read and name in computed}
            if node.op_type == "Shape" or tensors <= numbers:
                numbers.add(output)
            for i, name in enumerate(node.input):
                if name in computed:
                    given[i] = name
                elif name and i not in read and output not in numbers:
                    if name not in placed:
                        placed[name] = self._placed(constants[name])
                    given[i] = placed[name]
            steps.append(_Step(run, tuple(given), output, attributes, ()))
        return steps

    def _freeing(self, steps: list[_Step]) -> tuple[_Step, ...]:
        """The same, each with what is dead after it."""
        names = [dict.fromkeys(one for one in step.inputs if isinstance(one, str)) for step in steps]
        last = {name: i for i, some in enumerate(names) for name in some}
        return tuple(
            replace(
                step,
                dead=tuple(name for name in some if last[name] == i and name not in self._outputs),
            )
            for i, (step, some) in enumerate(zip(steps, names, strict=True))
        )


def output_shapes(path: Path, image: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Of the outputs for pictures of the shape `image`, [B, H, W, 3], by name. Nothing is computed, and
    no memory taken for it.

    Raises as `TorchGraph` does, and ArtifactError where the graph does not take such pictures.
    """
    graph = TorchGraph(path, "meta")
    torch = graph.torch
    try:
        with torch.inference_mode():
            found = graph(torch.empty(image, dtype=torch.uint8, device="meta"))
    except RuntimeError as error:
        raise ArtifactError(
            f"{path}: PyTorch cannot run it on pictures of {list(image)}: "
            f"{str(error).splitlines()[0]}; export the backbone again, or use engine.kind = 'openvino'"
        ) from error
    return {name: tuple(tensor.shape) for name, tensor in found.items()}


def libraries() -> tuple[Any, Any]:
    """torch and onnx. Raises ConfigError where one is missing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import onnx
            import torch
    except ImportError as error:
        raise ConfigError(
            f"the torch engine needs {error.name}, which is not installed; pip install 'edge_ad[torch]'"
        ) from error
    return torch, onnx
