"""The magnetic tiles: real images from outside the repository."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_backbone import write_tiny_backbone

from edge_ad.backbone.openvino import open_features
from edge_ad.backbone.spec import Backbone, load_backbone
from edge_ad.capture.pixels import pixel_rule
from edge_ad.evaluate.dataset import find_datasets
from edge_ad.evaluate.extract import Rig
from edge_ad.evaluate.result import Evaluation
from edge_ad.evaluate.run import Options, evaluate_class, masks_of
from edge_ad.gaussian.subspace import Reduction
from edge_ad.gaussian.view import FitSettings


def evaluate(tiles: Path, backbone: Backbone, reduction: Reduction) -> Evaluation:
    engine = open_features(backbone)
    try:
        rig = Rig(backbone, engine, pixel_rule("auto"), lambda: None)
        [dataset] = find_datasets(tiles).classes
        masks = masks_of(dataset)
        assert masks is not None
        # The data set's own description counts four empty masks.
        assert (len(masks.files), len(masks.empty), masks.missing) == (388, 4, [])
        settings = FitSettings(levels=backbone.levels, reduction=reduction)
        return evaluate_class(dataset, masks, rig, Options("paper", settings, 0.05))[0]
    finally:
        engine.close()


def test_promised_false_rejects_hold_on_real_parts_even_with_an_untrained_network(
    shared: Path, tmp_path: Path
) -> None:
    """A promise about good parts needs no good network; telling defects apart does."""
    result = evaluate(shared / "data" / "magnetic_tile", write_tiny_backbone(tmp_path), Reduction())
    assert result.unreadable == []
    assert (result.parts.train, result.parts.good, result.parts.defect) == (666, 286, 392)
    assert [(p.target, p.inside) for p in result.working_points] == [
        (0.05, True),
        (0.01, True),
        (0.001, True),
    ]


@pytest.mark.slow
def test_the_publications_profile_reaches_the_reference(shared: Path, tmp_path: Path) -> None:
    """Reference: an independent implementation on the same split with OpenCV's area filter."""
    from click.testing import CliRunner

    from edge_ad.cli.main import cli

    weights = shared / "weights" / "mobilenetv2_100.safetensors"
    arguments = ["backbone", "export", "mobilenetv2_100", "--weights", str(weights), "-o", str(tmp_path)]
    done = CliRunner().invoke(cli, [*arguments, "--size", "224"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    backbone, tiles = load_backbone(tmp_path), shared / "data" / "magnetic_tile"
    plain = evaluate(tiles, backbone, Reduction())
    assert plain.image_auroc == pytest.approx(0.893, abs=0.01)
    assert [(p.target, p.inside) for p in plain.working_points] == [
        (0.05, True),
        (0.01, True),
        (0.001, True),
    ]
    npca = evaluate(tiles, backbone, Reduction("npca", 0.01))
    assert npca.image_auroc == pytest.approx(0.916, abs=0.01)
    assert npca.false_reject_inside
