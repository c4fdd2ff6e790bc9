"""The embedded backbone: a shallow convolutional net with one regression head per level.

The trunk is a stem and five further levels at strides 2, 4, 8, 16, 16 and 32. Each level but the
stem has a linear head that regresses stages of the teacher. Heads are 1x1 convolutions: what they
predict is a linear function of the trunk's features, so the trunk ships without them.

Strided convolutions pad one more pixel at the far side than at the near one, as the teacher's do
('same' padding on even sizes): else both nets sample grids half a pixel apart, at every level.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Level:
    """One level: an entry (strided or not), residual blocks, and the teacher stages it regresses."""

    name: str
    width: int
    stride: int  # of the entry: 2 halves the grid, 1 goes on at the same grid without an entry
    entry: str  # "dense": 3x3 convolution; "separable": 5x5 depthwise, then 1x1; "none"
    blocks: int
    expand: float = 2.0
    kernel: int = 3
    teacher: tuple[int, ...] = ()  # indices into the teacher's stages (blocks[i])


@dataclass(frozen=True)
class Architecture:
    """Levels of the trunk and the channels of each teacher stage."""

    levels: tuple[Level, ...]
    teacher_dims: tuple[int, ...] = (16, 24, 32, 64, 96, 160, 320)

    def head_dim(self, level: Level) -> int:
        """Channels that `level`'s head predicts; 0 for a level without a head."""
        return sum(self.teacher_dims[i] for i in level.teacher)


EMBEDDED = Architecture(
    (
        Level("stem", 16, 2, "dense", 0),
        Level("s4", 32, 2, "dense", 1, teacher=(1,)),
        Level("s8", 48, 2, "dense", 3, teacher=(2,)),
        Level("s16a", 160, 2, "dense", 2, kernel=5, teacher=(3,)),
        Level("s16b", 160, 1, "none", 3, kernel=5, teacher=(4,)),
        Level("s32", 256, 2, "separable", 2, expand=1.5, kernel=5, teacher=(5, 6)),
    )
)


class ConvNorm(nn.Module):
    """A convolution with 'same' padding and batch normalisation, with or without ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, groups: int, relu: bool
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.relu = relu
        # Even sizes: k - stride pixels in all, the odd one at the far side.
        near = (kernel - stride) // 2
        self.pad = (near, kernel - stride - near)

    def forward(self, x: Tensor) -> Tensor:
        near, far = self.pad
        if near or far:
            x = functional.pad(x, (near, far, near, far))
        x = self.norm(self.conv(x))
        return functional.relu(x) if self.relu else x

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the convolution with its batch normalisation folded in, float32."""
        norm = self.norm
        assert norm.running_var is not None and norm.running_mean is not None
        gain = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
        weight = self.conv.weight.double() * gain[:, None, None, None]
        bias = norm.bias.double() - norm.running_mean.double() * gain
        return weight.float(), bias.float()


class Block(nn.Module):
    """Residual block: depthwise on the narrow side, then 1x1 out and back.

    The depthwise convolution sees `width` channels and not the expanded ones: depthwise layers are
    bound by memory, and that is where MobileNetV2 spends its time on a CPU.
    """

    def __init__(self, width: int, expand: float, kernel: int) -> None:
        super().__init__()
        hidden = int(width * expand)
        self.spatial = ConvNorm(width, width, kernel, 1, width, relu=False)
        self.up = ConvNorm(width, hidden, 1, 1, 1, relu=True)
        self.down = ConvNorm(hidden, width, 1, 1, 1, relu=False)
        # Start as the identity, so that depth does not slow the first steps.
        nn.init.zeros_(self.down.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.down(self.up(self.spatial(x)))
        return out


class Student(nn.Module):
    """Trunk and heads. `forward` takes normalised RGB [B, 3, H, W], H and W multiples of 32."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.entries = nn.ModuleList()
        self.blocks = nn.ModuleList()
        self.heads = nn.ModuleList()
        inputs = 3
        for level in architecture.levels:
            self.entries.append(_entry(level, inputs))
            inputs = level.width
            stack = [Block(level.width, level.expand, level.kernel) for _ in range(level.blocks)]
            self.blocks.append(nn.Sequential(*stack))
            dim = architecture.head_dim(level)
            self.heads.append(nn.Conv2d(level.width, dim, 1) if dim else nn.Identity())

    def forward(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Maps of every level, and of every head (levels without a head have none)."""
        maps, heads = [], []
        for level, entry, blocks, head in zip(
            self.architecture.levels, self.entries, self.blocks, self.heads, strict=True
        ):
            x = blocks(entry(x))
            maps.append(x)
            if level.teacher:
                heads.append(head(x))
        return maps, heads


def _entry(level: Level, inputs: int) -> nn.Module:
    if level.entry == "dense":
        return ConvNorm(inputs, level.width, 3, level.stride, 1, relu=True)
    if level.entry == "separable":
        return nn.Sequential(
            ConvNorm(inputs, inputs, 5, level.stride, inputs, relu=False),
            ConvNorm(inputs, level.width, 1, 1, 1, relu=True),
        )
    return nn.Identity()
