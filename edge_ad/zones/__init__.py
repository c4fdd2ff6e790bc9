"""Zones: parts of a frame that are ignored or have rules of their own. The station file's polygons,
label images and annotations become one label image per camera.
"""

from __future__ import annotations

from edge_ad.zones.labels import label_images

__all__ = ["label_images"]
