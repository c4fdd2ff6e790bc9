"""What a bundle says of its views in words: how finely the network sees each."""

from __future__ import annotations

from edge_ad.bundle.manifest import Manifest
from edge_ad.preprocess.views import view_text


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
