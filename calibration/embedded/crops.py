"""Training crops: photographs and rendered surfaces in one store on the device.

Photographs are decoded once. Every step cuts random windows (place, scale, stretch, turn, mirror) out
of the store with one bilinear gather, then changes colour, sharpness and noise, and rounds to whole
grey levels, because that is what a camera hands over.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from textures import Draw, paste_defects, surfaces
from torch import Tensor
from torch.nn import functional

SURFACE_SIZE = 256


class CropStore:
    """Pixels of all sources as one flat int32 tensor (R, G, B, 0), with their places and sizes."""

    def __init__(self, folder: Path, surface_count: int, draw: Draw) -> None:
        self.draw = draw
        self.device = draw.device
        paths = sorted(folder.glob("*.jpg"))
        if not paths:
            raise SystemExit(f"{folder}: no *.jpg; name the photographs with --photos")
        pixels: list[np.ndarray] = []
        sizes: list[tuple[int, int]] = []
        for path in paths:
            image = cv2.imread(str(path))
            if image is None:
                raise SystemExit(f"{path}: not readable as an image; remove or replace it")
            # Each photograph also at half size: bilinear sampling aliases beyond a factor of 2.
            for scale in (1.0, 0.5):
                small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
                sizes.append((small.shape[0], small.shape[1]))
                pixels.append(cv2.cvtColor(small, cv2.COLOR_BGR2RGBA).reshape(-1, 4))
        self.photos = len(paths)
        self.surface_count = surface_count
        side = SURFACE_SIZE
        sizes += [(side, side)] * surface_count
        photo_bytes = torch.from_numpy(np.concatenate(pixels)).to(self.device)
        self.photo_pixels = photo_bytes.shape[0]
        surface_bytes = torch.zeros(
            (surface_count * side * side, 4), dtype=torch.uint8, device=self.device
        )
        self.bytes = torch.cat([photo_bytes, surface_bytes])
        counts = torch.tensor([h * w for h, w in sizes], dtype=torch.int64)
        self.start = (counts.cumsum(0) - counts).to(self.device)
        self.height = torch.tensor([h for h, _ in sizes], device=self.device)
        self.width = torch.tensor([w for _, w in sizes], device=self.device)
        self.next_surface = 0
        self.sample: Callable[..., Tensor] = sample

    def compile(self, on: bool) -> None:
        """Fuse the gather, or not: worth it on a GPU, where it is bound by memory."""
        self.sample = torch.compile(sample, dynamic=False) if on else sample

    def render(self, count: int) -> None:
        """Replace the `count` oldest surfaces by new ones."""
        count = min(count, self.surface_count - self.next_surface)
        side = SURFACE_SIZE
        first = self.photo_pixels + self.next_surface * side * side
        rgb = surfaces(self.draw, count, side).reshape(-1, 3)
        self.bytes[first : first + rgb.shape[0], :3] = rgb
        self.next_surface = (self.next_surface + count) % self.surface_count

    def _sources(self, n: int, share: float, size: int) -> tuple[Tensor, Tensor]:
        """Which source each crop comes from, and its scale in source pixels per crop pixel."""
        draw = self.draw
        widest = min(2.5, 340 / size)
        scale = draw.log_uniform(n, 0.4, widest).flatten()
        photo = torch.randint(self.photos, (n,), generator=draw.generator, device=self.device)
        half = scale > 1.25
        source = photo * 2 + half.long()
        scale = torch.where(half, scale / 2, scale)
        surface = torch.randint(self.surface_count, (n,), generator=draw.generator, device=self.device)
        drawn = draw.rand(n) < share
        narrow = draw.log_uniform(n, 0.4, 1.25).flatten()
        source = torch.where(drawn, 2 * self.photos + surface, source)
        return source, torch.where(drawn, narrow, scale)

    def _gather(self, source: Tensor, x: Tensor, y: Tensor) -> Tensor:
        packed = self.bytes.view(torch.int32).flatten()
        places = (self.start[source], self.width[source], self.height[source])
        return self.sample(packed, *(p[:, None, None] for p in places), x, y)

    def batch(self, n: int, size: int, surface_share: float) -> Tensor:
        """`n` crops as the nets take them: RGB, x / 127.5 - 1, whole grey levels, channels last."""
        draw = self.draw
        source, scale = self._sources(n, surface_share, size)
        stretch = torch.exp(draw.randn(n, 1, 1) * 0.12)
        angle = torch.round(draw.rand(n, 1, 1) * 4) * (math.pi / 2)
        angle = angle + torch.where(draw.chance(n, 0.5), 0.0, draw.randn(n, 1, 1) * 0.3)
        mirror = torch.where(draw.chance(n, 0.5), 1.0, -1.0)
        axis = torch.arange(size, device=self.device, dtype=torch.float32) - (size - 1) / 2
        step = scale[:, None, None]
        u, v = axis[None, None, :] * step * stretch * mirror, axis[None, :, None] * step / stretch
        reach = (size / 2) * step
        cx = _place(draw.rand(n, 1, 1), self.width[source][:, None, None], reach)
        cy = _place(draw.rand(n, 1, 1), self.height[source][:, None, None], reach)
        x = cx + u * torch.cos(angle) - v * torch.sin(angle)
        y = cy + u * torch.sin(angle) + v * torch.cos(angle)
        return disturb(draw, self._gather(source, x, y))


def sample(packed: Tensor, start: Tensor, width: Tensor, height: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Bilinear samples at source pixels (x, y), mirrored at the borders, [n, 3, s, s], 0..1."""
    x = _mirror(x, width - 1)
    y = _mirror(y, height - 1)
    x0, y0 = x.floor(), y.floor()
    fx, fy = x - x0, y - y0
    left, top = x0.long(), y0.long()
    right = torch.minimum(left + 1, width - 1)
    bottom = torch.minimum(top + 1, height - 1)
    corners = [packed[start + row * width + column] for row in (top, bottom) for column in (left, right)]
    weights = [(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy]
    channels = [
        sum(((c >> shift) & 255).float() * w for c, w in zip(corners, weights, strict=True)) / 255
        for shift in (0, 8, 16)
    ]
    return torch.stack(channels, 1)


def _mirror(x: Tensor, last: Tensor) -> Tensor:
    return last - (x.remainder(2 * last) - last).abs()


def _place(random: Tensor, extent: Tensor, reach: Tensor) -> Tensor:
    """A centre whose window lies inside the source, or its middle where the window is larger."""
    room = (extent - 2 * reach).clamp_min(0)
    return (extent - room) / 2 + random * room


def _blur(images: Tensor, sigma: float) -> Tensor:
    radius = max(1, math.ceil(2.5 * sigma))
    offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(3, 1, -1)
    padded = functional.pad(images, (radius,) * 4, mode="reflect")
    rows = functional.conv2d(padded, kernel[..., None], groups=3)
    return functional.conv2d(rows, kernel[:, :, None], groups=3)


def disturb(draw: Draw, images: Tensor) -> Tensor:
    """Defects, colour, blur and noise on [n, 3, s, s] in 0..1; returns -1..1, channels last."""
    n = images.shape[0]
    # Sources are drawn independently, so slices of the batch are random subsets.
    third = max(2, n // 3)
    images = torch.cat([paste_defects(draw, images[:third]), images[third:]])
    images = torch.roll(images, n // 5, 0)
    images = images * torch.exp(draw.randn(n, 3, 1, 1) * 0.08)
    grey = images.mean(1, keepdim=True)
    keep = torch.where(draw.chance(n, 0.5), 0.0, draw.uniform(n, 0.3, 1.3))[:, None]
    images = grey + (images - grey) * keep
    gamma = torch.exp(draw.randn(n, 1, 1) * 0.3)[:, None]
    images = images.clamp(1e-4, 1) ** gamma
    images = torch.where(draw.chance(n, 0.08)[:, None], 1 - images, images)
    mean = images.mean((1, 2, 3), keepdim=True)
    contrast = torch.exp(draw.randn(n, 1, 1) * 0.35)[:, None]
    images = mean + (images - mean) * contrast + draw.randn(n, 1, 1, 1) * 0.08
    images = torch.roll(images, n // 7, 0)
    slot = max(1, n // 16)
    blurred = [
        _blur(images[i * slot : (i + 1) * slot], sigma) for i, sigma in enumerate((0.5, 0.8, 1.2, 2.0))
    ]
    images = torch.cat([*blurred, images[4 * slot :]])
    sigma = torch.where(draw.chance(n, 0.4), 0.0, draw.log_uniform(n, 0.002, 0.05))[:, None]
    colour_noise = draw.randn(*images.shape)
    mono = torch.where(draw.chance(n, 0.5)[:, None], colour_noise[:, :1], colour_noise)
    images = (images + sigma * mono).clamp(0, 1)
    images = (images * 255).round() / 127.5 - 1
    return images.contiguous(memory_format=torch.channels_last)
