"""Rendered surfaces and defects, on whatever device the generator lives on.

Photographs hold few of the things a line inspects: brushed metal, weaves, gratings, speckle, smooth
gradients under uneven light. These are drawn here from noise fields and simple periodic functions,
and defects (scratches, spots, stains, chips) are pasted onto surfaces and photographs alike. Nothing
here imitates a particular product: every parameter is drawn from a wide range.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


class Draw:
    """Random numbers of one generator, shaped [n, 1, 1] to broadcast over images."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator
        self.device = generator.device

    def rand(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator, device=self.device)

    def randn(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, device=self.device)

    def uniform(self, n: int, low: float, high: float) -> Tensor:
        return low + (high - low) * self.rand(n, 1, 1)

    def log_uniform(self, n: int, low: float, high: float) -> Tensor:
        return torch.exp(self.uniform(n, math.log(low), math.log(high)))

    def chance(self, n: int, p: float) -> Tensor:
        return self.rand(n, 1, 1) < p

    def choice(self, n: int, kinds: int) -> Tensor:
        return torch.randint(kinds, (n, 1, 1), generator=self.generator, device=self.device)


def _standard(x: Tensor) -> Tensor:
    x = x - x.mean((1, 2), keepdim=True)
    return x / x.std((1, 2), keepdim=True).clamp_min(1e-6)


def _plane(draw: Draw, n: int, size: int) -> tuple[Tensor, Tensor]:
    """Coordinates in a plane turned by a random angle, [n, size, size], pixels from the centre."""
    axis = torch.arange(size, device=draw.device, dtype=torch.float32) - (size - 1) / 2
    # Half of all surfaces lie square to the camera, as fixtures make them.
    angle = draw.uniform(n, 0, 2 * math.pi)
    square = torch.round(angle / (math.pi / 2)) * (math.pi / 2)
    angle = torch.where(draw.chance(n, 0.5), square, angle)
    x, y = axis[None, None, :], axis[None, :, None]
    return x * torch.cos(angle) + y * torch.sin(angle), y * torch.cos(angle) - x * torch.sin(angle)


def noise_field(draw: Draw, n: int, size: int) -> Tensor:
    """Power-law noise, isotropic to strongly brushed, [n, size, size], zero mean, unit variance."""
    spectrum = torch.fft.rfft2(draw.randn(n, size, size))
    v = torch.fft.fftfreq(size, device=draw.device)[None, :, None]
    u = torch.fft.rfftfreq(size, device=draw.device)[None, None, :]
    angle = draw.uniform(n, 0, math.pi)
    angle = torch.where(draw.chance(n, 0.5), torch.round(angle / (math.pi / 2)) * math.pi / 2, angle)
    stretch = torch.where(draw.chance(n, 0.5), draw.log_uniform(n, 1.0, 12.0), 1.0)
    along = (u * torch.cos(angle) + v * torch.sin(angle)) * stretch
    across = (v * torch.cos(angle) - u * torch.sin(angle)) / stretch
    radius = torch.sqrt(along**2 + across**2) + draw.log_uniform(n, 0.004, 0.1)
    field = torch.fft.irfft2(spectrum * radius ** -draw.uniform(n, 0.0, 3.0), s=(size, size))
    return _standard(field)


def _shaped_noise(draw: Draw, n: int, size: int) -> Tensor:
    """Noise passed through a random nonlinearity: ridges, blotches, speckle."""
    field = noise_field(draw, n, size)
    kind = draw.choice(n, 5)
    blotches = torch.tanh(draw.log_uniform(n, 1.0, 12.0) * (field - draw.uniform(n, -1.5, 1.5)))
    field = torch.where(kind == 1, -field.abs(), field)
    field = torch.where(kind == 2, blotches, field)
    field = torch.where(kind == 3, torch.exp(field.clamp(-4, 3)), field)
    return _standard(field)


def _periodic(draw: Draw, n: int, size: int) -> Tensor:
    """Gratings, weaves, tile joints and hole patterns, warped a little."""
    x, y = _plane(draw, n, size)
    warp = noise_field(draw, n, size) * draw.log_uniform(n, 0.01, 0.6)
    period = draw.log_uniform(n, 3.0, 80.0)
    aspect = torch.where(draw.chance(n, 0.5), 1.0, draw.log_uniform(n, 0.3, 3.0))
    a = math.pi * (x / period + draw.rand(n, 1, 1)) + warp
    b = math.pi * (y / (period * aspect) + draw.rand(n, 1, 1)) + warp
    kind = draw.choice(n, 5)
    sharp = draw.log_uniform(n, 0.3, 8.0)
    checker = torch.sin(a) * torch.sin(b) > 0
    weave = torch.where(checker, torch.sin(2 * a).abs(), torch.sin(2 * b).abs())
    joints = torch.tanh(4 * sharp * (torch.minimum(torch.sin(a).abs(), torch.sin(b).abs()) - 0.1))
    holes = torch.tanh(sharp * (torch.sin(2 * a) + torch.sin(2 * b) - draw.uniform(n, -1.0, 1.5)))
    field = torch.tanh(sharp * torch.sin(2 * a)) / sharp.clamp_max(1.0)
    field = torch.where(kind == 1, weave, field)
    field = torch.where(kind == 2, joints, field)
    field = torch.where(kind == 3, holes, field)
    field = torch.where(kind == 4, torch.sin(2 * a) * torch.sin(2 * b), field)
    return _standard(field)


def _cells(draw: Draw, n: int, size: int, points: int = 20) -> Tensor:
    """Grains: distance to the nearest of random points, or to the border between two."""
    x, y = _plane(draw, n, size)
    first = torch.full((n, size, size), 1e9, device=draw.device)
    second = first.clone()
    spread = draw.log_uniform(n, 0.4, 1.2) * size
    for _ in range(points):
        distance = torch.sqrt(
            (x - (draw.rand(n, 1, 1) - 0.5) * spread) ** 2
            + (y - (draw.rand(n, 1, 1) - 0.5) * spread) ** 2
        )
        second = torch.minimum(second, torch.maximum(first, distance))
        first = torch.minimum(first, distance)
    borders = torch.tanh((second - first) / draw.log_uniform(n, 1.0, 15.0))
    return _standard(torch.where(draw.chance(n, 0.5), first, borders))


def _light(draw: Draw, n: int, size: int) -> Tensor:
    """Smooth uneven light: a ramp and a round falloff, about -1..1."""
    x, y = _plane(draw, n, size)
    shift = (draw.rand(n, 1, 1) - 0.5) * size
    ramp = x / size * 2
    falloff = -(((x - shift) ** 2 + y**2) / (size / 2) ** 2)
    return ramp * draw.uniform(n, 0, 1) + falloff * draw.uniform(n, 0, 1)


def surfaces(draw: Draw, n: int, size: int) -> Tensor:
    """Render `n` surfaces, RGB uint8 [n, size, size, 3]."""
    third = max(1, n // 4)
    structure = torch.cat(
        [
            _periodic(draw, third, size),
            _cells(draw, third, size),
            _shaped_noise(draw, n - 2 * third, size),
        ]
    )
    x, _ = _plane(draw, n, size)
    fine = noise_field(draw, n, size)
    weight = torch.where(draw.chance(n, 0.3), 0.0, draw.log_uniform(n, 0.05, 2.0))
    height = _standard(structure + weight * fine)
    relief = _standard(torch.roll(height, (1, 1), (1, 2)) - height)
    height = torch.where(draw.chance(n, 0.25), relief, height)
    value = draw.uniform(n, 0.08, 0.92) + height * draw.log_uniform(n, 0.01, 0.3)
    value = value + _light(draw, n, size) * draw.log_uniform(n, 0.01, 0.3)
    # Some surfaces end inside the picture, against a plain background.
    edge = torch.sigmoid((x - draw.uniform(n, -0.5, 0.5) * size) * draw.log_uniform(n, 0.3, 4.0))
    background = draw.uniform(n, 0.0, 1.0)
    value = torch.where(draw.chance(n, 0.2), value + (background - value) * edge, value)
    colour = draw.randn(n, 1, 1, 3) * 0.15 + draw.randn(n, 1, 1, 3) * 0.15 * height[..., None]
    coloured = draw.chance(n, 0.4)[..., None]
    rgb = value[..., None] + torch.where(coloured, colour, 0.0)
    return (rgb.clamp(0, 1) * 255).round().to(torch.uint8)


def _scratch(draw: Draw, n: int, size: int) -> Tensor:
    """A bent line of constant width: distance to a walk of segments."""
    axis = torch.arange(size, device=draw.device, dtype=torch.float32)
    x, y = axis[None, None, :], axis[None, :, None]
    px, py = draw.rand(n, 1, 1) * size, draw.rand(n, 1, 1) * size
    heading = draw.uniform(n, 0, 2 * math.pi)
    step = draw.log_uniform(n, 0.04, 0.4) * size
    bend = draw.log_uniform(n, 0.02, 1.0)
    nearest = torch.full((n, size, size), 1e9, device=draw.device)
    for _ in range(4):
        heading = heading + draw.randn(n, 1, 1) * bend
        dx, dy = torch.cos(heading) * step, torch.sin(heading) * step
        t = (((x - px) * dx + (y - py) * dy) / (dx**2 + dy**2)).clamp(0, 1)
        nearest = torch.minimum(nearest, (x - px - t * dx) ** 2 + (y - py - t * dy) ** 2)
        px, py = px + dx, py + dy
    width = draw.log_uniform(n, 0.4, 4.0)
    return torch.sigmoid((width - nearest.sqrt()) / draw.log_uniform(n, 0.2, 1.0))


def _blob(draw: Draw, n: int, size: int) -> Tensor:
    """Spots, stains and chips: ellipses or boxes with a rough or smooth rim."""
    x, y = _plane(draw, n, size)
    x = x - draw.uniform(n, -0.45, 0.45) * size
    y = y - draw.uniform(n, -0.45, 0.45) * size
    radius = draw.log_uniform(n, 1.0, 0.3 * size)
    aspect = draw.log_uniform(n, 0.3, 1.0)
    ellipse = torch.sqrt(x**2 + (y / aspect) ** 2)
    box = torch.maximum(x.abs(), (y / aspect).abs())
    distance = torch.where(draw.chance(n, 0.75), ellipse, box)
    rough = torch.where(draw.chance(n, 0.5), 0.0, draw.uniform(n, 0.1, 0.6)) * radius
    rim = torch.where(draw.chance(n, 0.6), draw.uniform(n, 0.3, 1.0), radius * 0.4)
    return torch.sigmoid((radius - distance + rough * noise_field(draw, n, size)) / rim)


def paste_defects(draw: Draw, images: Tensor) -> Tensor:
    """Give every image of [n, 3, size, size] (0..1) one scratch or blob of random looks."""
    n, _, size, _ = images.shape
    half = n // 2
    alpha = torch.cat([_scratch(draw, half, size), _blob(draw, n - half, size)])
    alpha = (alpha * draw.uniform(n, 0.15, 1.0))[:, None]
    kind = draw.choice(n, 4)[:, None]
    mean = images.mean((2, 3), keepdim=True)
    paint = (mean + draw.randn(n, 3, 1, 1) * 0.1 + draw.randn(n, 1, 1, 1) * 0.3).clamp(0, 1)
    gain = images * draw.log_uniform(n, 0.3, 2.5)[:, None]
    elsewhere = torch.roll(images, (size // 3, size // 4), (2, 3))
    fill = torch.where(kind == 1, gain, paint.expand_as(images))
    fill = torch.where(kind == 2, elsewhere, fill)
    fill = torch.where(kind == 3, torch.roll(images, 1, 0), fill)
    return (images + alpha * (fill - images)).clamp(0, 1)
