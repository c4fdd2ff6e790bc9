"""`backbone.onnx` as PyTorch operations: what the exporter writes, one function each.

A graph that runs from top to bottom, its constants folded when it is read. The batch is what comes in.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_ad.backbone.torch_operations import OPERATIONS, Attributes, Operation
from edge_ad.errors import ArtifactError, ConfigError


@dataclass(frozen=True, slots=True)
class _Step:
    """One node: `dead` names what nobody needs after it, so that its memory is free again."""

    run: Operation
    inputs: tuple[str, ...]
    output: str
    attributes: Attributes
    dead: tuple[str, ...]


class TorchGraph:
    """Callable: uint8 [B, H, W, 3] tensor on `device` -> the outputs asked for, float32, by name."""

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
        self._input = graph.input[0].name
        self._outputs = [output.name for output in graph.output]
        self._constants: dict[str, Any] = {}
        for tensor in graph.initializer:
            self._keep(tensor.name, onnx.numpy_helper.to_array(tensor))
        self._steps = self._read(graph.node, onnx, path)
        used = {name for step in self._steps for name in step.inputs}
        self._constants = {
            name: self._placed(tensor, device)
            for name, tensor in self._constants.items()
            if name in used
        }

    def __call__(self, image: Any) -> dict[str, Any]:
        """Run the graph; the outputs are new tensors."""
        values = {"": None, self._input: image, **self._constants}
        for step in self._steps:
            values[step.output] = step.run(
                self.torch, [values[name] for name in step.inputs], step.attributes
            )
            for name in step.dead:
                del values[name]
        return {name: values[name] for name in self._outputs}

    def _keep(self, name: str, array: Any) -> None:
        self._constants[name] = self.torch.from_numpy(array.copy())

    def _attribute(self, onnx: Any, attribute: Any) -> Any:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, onnx.TensorProto):
            return self.torch.from_numpy(onnx.numpy_helper.to_array(value).copy())
        return value

    def _placed(self, tensor: Any, device: str) -> Any:
        """Weights go to the device; shapes, indices and single numbers stay where they are read."""
        if not tensor.is_floating_point() or tensor.ndim == 0:
            return tensor
        layout = self.torch.channels_last if tensor.ndim == 4 else self.torch.preserve_format
        return tensor.to(device, memory_format=layout)

    def _read(self, nodes: Any, onnx: Any, path: Path) -> tuple[_Step, ...]:
        """The steps that depend on the picture; the others are done here."""
        steps: list[_Step] = []
        for node in nodes:
            attributes = {a.name: self._attribute(onnx, a) for a in node.attribute}
            run = OPERATIONS.get(node.op_type)
            if run is None or node.domain not in ("", "ai.onnx"):
                raise ArtifactError(
                    f"{path}: the torch engine does not know the operation {node.op_type!r} "
                    f"({node.name}); use engine.kind = 'openvino'"
                )
            if all(name in self._constants or not name for name in node.input):
                given = [self._constants[name] if name else None for name in node.input]
                self._constants[node.output[0]] = run(self.torch, given, attributes)
                continue
            steps.append(_Step(run, tuple(node.input), node.output[0], attributes, ()))
        last = {name: i for i, step in enumerate(steps) for name in step.inputs}
        kept = {"", *self._constants, *self._outputs}
        return tuple(
            _Step(
                step.run,
                step.inputs,
                step.output,
                step.attributes,
                tuple(
                    name for name in dict.fromkeys(step.inputs) if last[name] == i and name not in kept
                ),
            )
            for i, step in enumerate(steps)
        )


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
