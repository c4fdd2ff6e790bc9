"""A part under its maps: hot where the map is, laid straight as it was judged, every camera its own."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from made_up_bundle import tiny_contents
from tiny_backbone import write_tiny_backbone

from edge_ad.bundle import CameraRule, Manifest, ViewRule
from edge_ad.bundle.manifest import LocateRule
from edge_ad.capture.parts import Placement, plate
from edge_ad.errors import ConfigError, DeviceError
from edge_ad.locate import CameraLocator, Locator, PartLocator, Pose, Settings
from edge_ad.report.heat import PartDrawer, encode_overlay, part_drawer

SIZE = (320, 240)
BOX = (32, 24, 256, 192)
NOTHING = np.zeros((4, 4), np.float32)


def spot(row: int, column: int) -> np.ndarray:
    found = NOTHING.copy()
    found[row, column] = 9.0
    return found


def manifest(directory: Path, cameras: dict[str, LocateRule | None]) -> Manifest:
    """A bundle of these cameras, each with one view."""
    made, _ = tiny_contents(write_tiny_backbone(directory), profile="default")
    rules = {
        name: CameraRule(
            pixel_rule="auto8", frame_size="fixed", width=SIZE[0], height=SIZE[1], channels=1,
            locate=locate,
        )
        for name, locate in cameras.items()
    }  # fmt: skip
    preprocess = msgspec.structs.replace(made.preprocess, cameras=rules)
    views = [ViewRule(name=name, camera=name) for name in cameras]
    return msgspec.structs.replace(made, preprocess=preprocess, views=views)


def drawer(directory: Path, cameras: dict[str, LocateRule | None]) -> PartDrawer:
    found = part_drawer(manifest(directory, cameras))
    assert found is not None
    return found


def test_a_bundle_without_maps_has_no_drawer(tmp_path: Path) -> None:
    made, _ = tiny_contents(write_tiny_backbone(tmp_path))
    assert part_drawer(made) is None


def test_a_camera_is_hot_where_its_own_map_is_and_the_frames_stay(tmp_path: Path) -> None:
    grey, colour = np.full((240, 320), 90, np.uint8), np.full((240, 320, 3), 90, np.uint8)
    pictures = drawer(tmp_path, {"top": None, "side": None}).draw(
        {"side": colour, "top": grey}, (None, None), (spot(0, 0), spot(3, 3)), 2.0
    )
    assert list(pictures) == ["top", "side"]
    for name, (y, x) in {"top": (20, 20), "side": (220, 300)}.items():
        change = np.abs(pictures[name].astype(int) - 90).sum(axis=2)
        assert change[y, x] == change.max() > 50
        assert change[240 - y, 320 - x] == 0
    assert (grey == 90).all() and (colour == 90).all()


def test_a_view_is_drawn_in_its_region_alone(tmp_path: Path) -> None:
    made = manifest(tmp_path, {"top": None})
    views = [ViewRule(name="right", camera="top", roi=(160, 0, 160, 240))]
    found = part_drawer(msgspec.structs.replace(made, views=views))
    assert found is not None
    hot = np.full((4, 4), 9.0, np.float32)
    image = np.full((240, 320), 90, np.uint8)
    picture = found.draw({"top": image}, (None,), (hot,), 2.0)["top"]
    assert (picture[:, :160] == 90).all() and (picture[:, 160:] != 90).any(axis=2).all()
    with pytest.raises(ConfigError, match=r"view right: roi .* is outside of 100 x 240 px"):
        found.draw({"top": image[:, :100].copy()}, (None,), (hot,), 2.0)


def test_a_picture_to_look_at_is_smaller_by_a_whole_factor(tmp_path: Path) -> None:
    made = manifest(tmp_path, {"top": None})
    views = [ViewRule(name="right", camera="top", roi=(161, 3, 159, 236))]
    found = part_drawer(msgspec.structs.replace(made, views=views))
    assert found is not None
    hot, image = np.full((4, 4), 9.0, np.float32), np.full((240, 320), 90, np.uint8)
    for largest, shape in ((320, (240, 320)), (319, (120, 160)), (130, (80, 107))):
        picture = found.draw({"top": image}, (None,), (hot,), 2.0, largest)["top"]
        assert picture.shape == (*shape, 3)
        by = -(-320 // largest)
        edge = 161 // by
        assert (picture[:, :edge] == 90).all() and (picture[4:-4, edge + 1 :] != 90).any(axis=2).all()
    with pytest.raises(ConfigError, match=r"view right: roi .* is outside of 100 x 240 px"):
        found.draw({"top": image[:, :100].copy()}, (None,), (hot,), 2.0, 50)


def test_a_part_is_laid_straight_as_it_was_judged_and_so_is_a_shot_that_follows(tmp_path: Path) -> None:
    rule = LocateRule(0.1, 12.0, 0.0, 0.6, 0.02, BOX, "locate/top.png")
    # Its own box is nothing that it would be turned about.
    follower = msgspec.structs.replace(rule, box=(0, 0, 40, 40), shot="top", reference="")
    images = [plate(1, *SIZE).render(i, "", Placement(7.0, -5.0, 6.0)) for i in (3, 4)]
    locator = Locator(plate(1, *SIZE).render(0, "", Placement()), Settings(max_angle=12.0, box=BOX))
    straight = PartLocator([CameraLocator(locator, {"top": BOX}, 0.02)]).straighten(images[:1])
    (pose,) = straight.poses
    assert isinstance(pose, Pose) and abs(pose.angle) > 5
    pictures = drawer(tmp_path, {"top": rule, "top-2": follower}).draw(
        dict(zip(("top", "top-2"), images, strict=True)), (pose, pose), (NOTHING, NOTHING), 2.0
    )
    np.testing.assert_array_equal(pictures["top"], np.repeat(straight.images[0][..., None], 3, axis=2))
    second = PartLocator([CameraLocator(locator, {"top": BOX}, 0.02)])
    out = np.empty_like(images[1])
    assert second.finders[0] is not None
    second.finders[0].locator.straighten(images[1], pose, out)
    np.testing.assert_array_equal(pictures["top-2"][..., 0], out)


def test_what_is_too_large_for_a_jpeg_is_an_error() -> None:
    with pytest.raises(DeviceError, match=r"cannot encode a picture of shape \(2, 70000, 3\) as JPEG"):
        encode_overlay(np.zeros((2, 70000, 3), np.uint8))
