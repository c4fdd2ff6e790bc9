"""What a bundle says of its geometry in words: how parts lie, how finely the network sees each view."""

from __future__ import annotations

import math

from edge_ad.bundle.manifest import CameraRule, Manifest, ViewRule
from edge_ad.preprocess import pixels_per_input
from edge_ad.preprocess.views import view_boxes, view_text

# Network pixels that parts may lie off by and still be seen alike: a quarter of a position. (Rendered
# parts: see the table of placements in calibration/RESULTS.md.)
STILL = 4.0
NEAR = 0.75  # of a bound: parts that lie that far off may lie further


def view_texts(manifest: Manifest) -> list[tuple[str, str]]:
    """Per view its name, and how finely the network sees it."""
    rule = manifest.preprocess
    texts = []
    for view in manifest.views:
        camera = rule.cameras[view.camera]
        place = f"camera {view.camera}, {f'roi {list(view.roi)}' if view.roi else 'whole frame'}"
        if camera.frame_size == "fixed":
            shape = (camera.height, camera.width)
        elif view.roi is not None:  # as if frames ended where the region does
            shape = (view.roi[1] + view.roi[3], view.roi[0] + view.roi[2])
        else:
            rows, columns = view.tiles
            tiles = f", {rows} x {columns} tiles" if rows * columns > 1 else ""
            texts.append((view.name, f"{place}{tiles}; how fine depends on the frame"))
            continue
        texts.append((view.name, f"{place}: {view_text(view, shape, rule.height, rule.width)}"))
    return texts


def jitter_texts(manifest: Manifest) -> list[tuple[str, str]]:
    """Per camera its name and how its good parts lie, with advice, where that could be measured."""
    texts = []
    for name, rule in manifest.preprocess.cameras.items():
        if rule.jitter is None:
            continue
        seen = rule.jitter
        text = (
            f"95 % of {seen.parts} parts lie within {seen.shift:.1f} px and {seen.angle:.2f} degrees of "
            f"the middle, quality {seen.quality:.2f} and more"
        )
        views = [view for view in manifest.views if view.camera == name]
        texts.append((name, text + _advice(rule, views, manifest)))
    return texts


def _advice(rule: CameraRule, views: list[ViewRule], manifest: Manifest) -> str:
    seen, locate = rule.jitter, rule.locate
    assert seen is not None
    if locate is not None:
        far = [
            f"max_{what}"
            for what, value, most in (
                ("shift", seen.shift, locate.max_shift * min(rule.width, rule.height)),
                ("angle", seen.angle, locate.max_angle),
            )
            if most and value > NEAR * most
        ]
        return f"; near the bound: raise locate.{' and locate.'.join(far)}" if far else ""
    size = (manifest.preprocess.height, manifest.preprocess.width)
    shape = (rule.height, rule.width)
    finest = min(pixels_per_input(view_boxes(view, shape)[0], *size) for view in views)
    # Half way out from the middle.
    moved = seen.shift + math.radians(seen.angle) * math.hypot(*shape) / 4
    if moved / finest <= STILL:
        return ""
    return f"; that is {moved / finest:.0f} px for the network: [camera.locate] lays parts straight"


def zone_texts(manifest: Manifest) -> list[tuple[str, str]]:
    """Per zone its name and what it does."""
    units = {name: "mm2" if c.px_per_mm else "px2" for name, c in manifest.preprocess.cameras.items()}
    texts = []
    for zone in manifest.zones:
        unit = units[zone.camera]
        if zone.kind == "ignore":
            texts.append((zone.name, f"camera {zone.camera}, ignored"))
            continue
        what = [f"camera {zone.camera}"]
        what += [f"{zone.share:.0%} of the false rejects"] if zone.share else []
        what += [f"findings from {zone.min_area:g} {unit} on"] if zone.min_area else []
        what += [f"{zone.allow} of up to {zone.allow_area:g} {unit} allowed"] if zone.allow else []
        texts.append((zone.name, ", ".join(what)))
    return texts
