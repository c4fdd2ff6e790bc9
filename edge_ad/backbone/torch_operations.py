"""ONNX operations in PyTorch: those that the exporter writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edge_ad.errors import ArtifactError

Attributes = Mapping[str, Any]
# (torch, inputs, None for one that is not given, attributes) -> output
Operation = Callable[[Any, list[Any], Attributes], Any]

# Which inputs an operation reads as numbers: they stay with the CPU, since whoever reads them on a GPU
# waits for it. All others are computed with, and belong where the picture is.
NUMBERS: Mapping[str, tuple[int, ...]] = {
    "Clip": (1, 2),
    "ConstantOfShape": (0,),
    "Pad": (1, 2, 3),
    "ReduceMean": (1,),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    "Unsqueeze": (1,),
}


def _pads(torch: Any, x: Any, attributes: Attributes, value: float = 0.0) -> tuple[Any, list[int]]:
    """ONNX pads begin and end of every axis, PyTorch both alike: where they differ, x is padded here."""
    if attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise ArtifactError("the torch engine takes explicit padding only; export the backbone again")
    dims = x.ndim - 2
    pads = list(attributes.get("pads", [0] * 2 * dims))
    begin, end = pads[:dims], pads[dims:]
    if begin == end:
        return x, begin
    flat = [side for axis in reversed(range(dims)) for side in (begin[axis], end[axis])]
    return torch.nn.functional.pad(x, flat, value=value), [0] * dims


def _conv(torch: Any, values: list[Any], attributes: Attributes) -> Any:
    x, padding = _pads(torch, values[0], attributes)
    return torch.nn.functional.conv2d(
        x,
        values[1],
        values[2] if len(values) > 2 else None,
        stride=tuple(attributes.get("strides", (1, 1))),
        padding=tuple(padding),
        dilation=tuple(attributes.get("dilations", (1, 1))),
        groups=attributes.get("group", 1),
    )


def _max_pool(torch: Any, values: list[Any], attributes: Attributes) -> Any:
    x, padding = _pads(torch, values[0], attributes, -float("inf"))
    return torch.nn.functional.max_pool2d(
        x,
        tuple(attributes["kernel_shape"]),
        tuple(attributes.get("strides", (1, 1))),
        tuple(padding),
        tuple(attributes.get("dilations", (1, 1))),
        bool(attributes.get("ceil_mode", 0)),
    )


def _average_pool(torch: Any, values: list[Any], attributes: Attributes) -> Any:
    counted = bool(attributes.get("count_include_pad", 0))
    pads = list(attributes.get("pads", [0, 0, 0, 0]))
    if pads[:2] != pads[2:]:
        raise ArtifactError("the torch engine averages evenly padded maps only; use 'openvino'")
    return torch.nn.functional.avg_pool2d(
        values[0],
        tuple(attributes["kernel_shape"]),
        tuple(attributes.get("strides", (1, 1))),
        tuple(pads[:2]),
        bool(attributes.get("ceil_mode", 0)),
        counted,
    )


def _mean(torch: Any, values: list[Any], attributes: Attributes) -> Any:
    axes = values[1].tolist() if len(values) > 1 and values[1] is not None else attributes.get("axes")
    axes = list(axes) if axes else list(range(values[0].ndim))
    return values[0].mean(axes, keepdim=bool(attributes.get("keepdims", 1)))


def _reshape(torch: Any, values: list[Any], attributes: Attributes) -> Any:
    x, sides = values[0], values[1].tolist()
    return torch.reshape(x, [x.shape[i] if side == 0 else side for i, side in enumerate(sides)])


def _flatten(torch: Any, values: list[Any], attributes: Attributes) -> Any:
    x, axis = values[0], attributes.get("axis", 1)
    return x.reshape(1, -1) if axis == 0 else x.flatten(axis) if axis == 1 else x.flatten(0, axis - 1)


def _cast(torch: Any, values: list[Any], attributes: Attributes) -> Any:
    kinds = {1: torch.float32, 2: torch.uint8, 6: torch.int32, 7: torch.int64, 9: torch.bool}
    if attributes["to"] not in kinds:
        raise ArtifactError(
            f"the torch engine computes in float32, the graph casts to ONNX type {attributes['to']}; "
            "export the backbone again"
        )
    return values[0].to(kinds[attributes["to"]])


def _gather(torch: Any, values: list[Any], attributes: Attributes) -> Any:
    x, index, axis = values[0], values[1], attributes.get("axis", 0)
    found = x.index_select(axis, index.reshape(-1))
    return torch.reshape(found, (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]))


def _clip(torch: Any, values: list[Any], attributes: Attributes) -> Any:
    low, high = [*values[1:], None, None][:2]
    return values[0].clamp(None if low is None else float(low), None if high is None else float(high))


def _resize(torch: Any, values: list[Any], attributes: Attributes) -> Any:
    """Bilinear between pixels' centres, as the exporter enlarges coarse maps."""
    how = (attributes.get("mode", b"nearest"), attributes.get("coordinate_transformation_mode", b""))
    if how[0] != b"linear" or how[1] not in (b"half_pixel", b"pytorch_half_pixel", b""):
        raise ArtifactError(f"the torch engine does not resize by {how}; export the backbone again")
    x = values[0]
    if len(values) > 3 and values[3] is not None:
        size = values[3].tolist()[2:]
    else:
        size = [
            int(side * scale) for side, scale in zip(x.shape[2:], values[2].tolist()[2:], strict=True)
        ]
    return torch.nn.functional.interpolate(x, size=size, mode="bilinear", align_corners=False)


def _gemm(torch: Any, values: list[Any], attributes: Attributes) -> Any:
    a = values[0].T if attributes.get("transA", 0) else values[0]
    b = values[1].T if attributes.get("transB", 0) else values[1]
    product = attributes.get("alpha", 1.0) * (a @ b)
    return product if len(values) < 3 else product + attributes.get("beta", 1.0) * values[2]


def _unsqueeze(x: Any, axes: list[int]) -> Any:
    for axis in sorted(axes):
        x = x.unsqueeze(axis)
    return x


def _sum(torch: Any, values: list[Any], attributes: Attributes) -> Any:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def _pad(torch: Any, values: list[Any], attributes: Attributes) -> Any:
    if attributes.get("mode", b"constant") != b"constant":
        raise ArtifactError("the torch engine pads by a constant only; use engine.kind = 'openvino'")
    x, pads = values[0], values[1].tolist()
    fill = float(values[2]) if len(values) > 2 and values[2] is not None else 0.0
    flat = [pads[i + end] for i in reversed(range(x.ndim)) for end in (0, x.ndim)]
    return torch.nn.functional.pad(x, flat, value=fill)


def _slice(torch: Any, values: list[Any], attributes: Attributes) -> Any:
    x, starts, ends = values[0], values[1].tolist(), values[2].tolist()
    axes = values[3].tolist() if len(values) > 3 else list(range(len(starts)))
    steps = values[4].tolist() if len(values) > 4 else [1] * len(starts)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if step < 0:  # numbers of a shape, turned round: all of them
            if (start, step) != (-1, -1) or end > -x.shape[axis]:
                raise ArtifactError("the torch engine cuts forwards only; use engine.kind = 'openvino'")
            x = x.flip(axis)
            continue
        first, length = _range(start, end, x.shape[axis])
        x = x.narrow(axis, first, length)[(slice(None),) * (axis % x.ndim) + (slice(None, None, step),)]
    return x


def _range(start: int, end: int, size: int) -> tuple[int, int]:
    """First and length of a slice by ONNX's rules."""
    first, last = (min(max(v + size if v < 0 else v, 0), size) for v in (start, end))
    return first, max(0, last - first)


def _constant_of_shape(torch: Any, values: list[Any], attributes: Attributes) -> Any:
    value = attributes.get("value", torch.zeros(1))
    return torch.full(values[0].tolist(), value.item(), dtype=value.dtype)


OPERATIONS: dict[str, Operation] = {
    "Add": lambda torch, v, a: v[0] + v[1],
    "AveragePool": _average_pool,
    "BatchNormalization": lambda torch, v, a: torch.nn.functional.batch_norm(
        v[0], v[3], v[4], v[1], v[2], eps=a.get("epsilon", 1e-5)
    ),
    "Cast": _cast,
    "Ceil": lambda torch, v, a: v[0].ceil(),
    "Clip": _clip,
    "Concat": lambda torch, v, a: torch.cat(v, a["axis"]),
    "Constant": lambda torch, v, a: a["value"],
    "ConstantOfShape": _constant_of_shape,
    "Conv": _conv,
    "Div": lambda torch, v, a: v[0] / v[1],
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda torch, v, a: v[0].mean((2, 3), keepdim=True),
    "HardSigmoid": lambda torch, v, a: (v[0] * a.get("alpha", 0.2) + a.get("beta", 0.5)).clamp(0.0, 1.0),
    "HardSwish": lambda torch, v, a: torch.nn.functional.hardswish(v[0]),
    "Identity": lambda torch, v, a: v[0],
    "InstanceNormalization": lambda torch, v, a: torch.nn.functional.instance_norm(
        v[0], weight=v[1], bias=v[2], eps=a.get("epsilon", 1e-5)
    ),
    "MatMul": lambda torch, v, a: v[0] @ v[1],
    "MaxPool": _max_pool,
    "Mul": lambda torch, v, a: v[0] * v[1],
    "Pad": _pad,
    "ReduceMean": _mean,
    "Relu": lambda torch, v, a: v[0].relu(),
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": lambda torch, v, a: torch.tensor(v[0].shape),
    "Sigmoid": lambda torch, v, a: v[0].sigmoid(),
    "Slice": _slice,
    "Sub": lambda torch, v, a: v[0] - v[1],
    "Sum": _sum,
    "Transpose": lambda torch, v, a: v[0].permute(tuple(a["perm"])),
    "Unsqueeze": lambda torch, v, a: _unsqueeze(v[0], v[1].tolist()),
}
