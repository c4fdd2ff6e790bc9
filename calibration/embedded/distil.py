"""What the student learns: the teacher's stages, standardised, and the loss against them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file
from student import EMBEDDED, Student
from torch import Tensor, nn

# Floor of the eigenvalues when targets are whitened (1 = the mean eigenvalue): directions of less
# variance are mostly the teacher's rounding, and not worth the student's capacity.
WHITEN_FLOOR = 0.01
POOLED_WEIGHT = 0.5


def load_teacher(path: Path, device: torch.device) -> nn.Module:
    """MobileNetV2, frozen. Its batch norms are identities with a bias."""
    model = timm.create_model("mobilenetv2_100", pad_type="same", num_classes=1001)
    model.load_state_dict(load_file(str(path)))
    model.eval().requires_grad_(False)
    return model.to(device, memory_format=torch.channels_last)


def teacher_stages(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Outputs of the teacher's seven stages for normalised RGB [B, 3, H, W]."""
    x = model.bn1(model.conv_stem(x))
    maps = []
    for block in model.blocks:
        x = block(x)
        maps.append(x)
    return maps


class Moments:
    """Running mean and covariance of feature vectors, float64."""

    def __init__(self) -> None:
        self.count = 0
        self.sum: Tensor | float = 0.0
        self.outer: Tensor | float = 0.0

    def add(self, rows: Tensor) -> None:
        rows = rows.double()
        self.count += rows.shape[0]
        self.sum = self.sum + rows.sum(0)
        self.outer = self.outer + rows.T @ rows

    def result(self) -> tuple[Tensor, Tensor]:
        mean = torch.as_tensor(self.sum) / self.count
        return mean, torch.as_tensor(self.outer) / self.count - torch.outer(mean, mean)


def whitening(covariance: Tensor, white: bool) -> Tensor:
    """The matrix that divides channels by their deviation, or whitens them all (ZCA)."""
    scale = covariance.diagonal().sqrt().clamp_min(1e-6)
    matrix = torch.diag(1 / scale)
    if white:
        values, vectors = torch.linalg.eigh(covariance / torch.outer(scale, scale))
        gain = (values.clamp_min(0) + WHITEN_FLOOR).rsqrt()
        matrix = (vectors * gain) @ vectors.T @ matrix
    return matrix.float()


class Targets:
    """Moments of every teacher stage over training crops: per position, and of crop averages."""

    def __init__(self, stages: Callable[[Tensor], list[Tensor]], batches: Iterable[Tensor]) -> None:
        self.local: dict[int, Moments] = {}
        self.pooled: dict[int, Moments] = {}
        for batch in batches:
            for i, stage in enumerate(stages(batch)):
                rows = stage.float().permute(0, 2, 3, 1).reshape(-1, stage.shape[1])
                self.local.setdefault(i, Moments()).add(rows)
                self.pooled.setdefault(i, Moments()).add(stage.float().mean((2, 3)))


class Distiller(nn.Module):
    """A student, its targets and the loss: mean squared error, every stage with equal weight.

    kind "plain": each channel divided by its deviation. "white": whitened, so that directions of
    little variance count as much as others. "pooled": plain, and crop averages whitened besides.
    """

    def __init__(self, kind: str, targets: Targets) -> None:
        super().__init__()
        self.student = Student(EMBEDDED)
        self.groups = [level.teacher for level in EMBEDDED.levels if level.teacher]
        for i in (i for group in self.groups for i in group):
            mean, covariance = targets.local[i].result()
            matrix = whitening(covariance, kind == "white")
            self.register_buffer(f"mean{i}", mean.float())
            self.register_buffer(f"matrix{i}", matrix)
            # Heads predict matrix @ (x - mean): undone here, then whitened as crop averages are.
            pooled = whitening(targets.pooled[i].result()[1], True)
            back = torch.linalg.inv(matrix.double())
            self.register_buffer(f"pooled{i}", (pooled.double() @ back).float())
        # A buffer, not a branch: students of all kinds then compile to one graph.
        weight = POOLED_WEIGHT if kind == "pooled" else 0.0
        self.register_buffer("pooled_weight", torch.tensor(weight))

    def forward(self, x: Tensor, stages: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The loss, and its parts [2, stages]: per position and of crop averages."""
        _, heads = self.student(x)
        local, pooled = [], []
        for group, head in zip(self.groups, heads, strict=True):
            predicted = head.float().split([stages[i].shape[1] for i in group], 1)
            for i, guess in zip(group, predicted, strict=True):
                centred = stages[i].float().permute(0, 2, 3, 1) - getattr(self, f"mean{i}")
                error = guess.permute(0, 2, 3, 1) - centred @ getattr(self, f"matrix{i}").T
                local.append(error.square().mean())
                average = error.mean((1, 2)) @ getattr(self, f"pooled{i}").T
                pooled.append(average.square().mean())
        parts = torch.stack([torch.stack(local), torch.stack(pooled)])
        return parts[0].mean() + self.pooled_weight * parts[1].mean(), parts.detach()
