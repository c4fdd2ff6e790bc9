"""Exported graphs beside timm run the plain way, and weights that must be refused."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from device_mixing import mixing
from safetensors.torch import load_file, save_file

from edge_ad.backbone.export import export_backbone, list_networks
from edge_ad.backbone.grid import projection
from edge_ad.backbone.openvino import open_features
from edge_ad.backbone.spec import Local, load_backbone
from edge_ad.backbone.weights import Given, parse_levels, same_architecture
from edge_ad.errors import ArtifactError, ConfigError

NAME = "mobilenetv2_035"
SMALL = Given(size=(64, 64))
NOTES = {
    "architecture": NAME,
    "model_args": {"pad_type": "same", "num_classes": 7},
    "color": "RGB",
    "scale": 1 / 255,
    "mean": [0.4, 0.5, 0.6],
    "std": [0.2, 0.3, 0.4],
    "licence": "own",
}


def _network() -> Any:
    """A small network whose batch norms do something, as those of a trained one."""
    torch.manual_seed(5)
    model = timm.create_model(NAME, **NOTES["model_args"])
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
    return model.eval().requires_grad_(False)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    save_file(_network().state_dict(), path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(json.dumps({**NOTES, "sha256": sha256}))
    return path


def _rewrite(weights: Path, **changes: Any) -> None:
    """Change tensors (None removes one) and drop the notes' sha256 with them."""
    state = load_file(weights)
    for key, value in changes.items():
        key = key.replace("__", ".")
        state.pop(key, None)
        if value is not None:
            state[key] = value
    save_file(state, weights)
    weights.with_suffix(".json").write_text(json.dumps(NOTES))


def test_the_graph_computes_what_timm_does(weights: Path, tmp_path: Path) -> None:
    done = export_backbone(NAME, tmp_path / "out", SMALL, weights)
    picture = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    rgb = picture[..., ::-1].astype(np.float64) / 255
    x = (rgb - np.array(NOTES["mean"])) / np.array(NOTES["std"])
    y, maps = _network().forward_intermediates(
        torch.from_numpy(x.transpose(0, 3, 1, 2).astype(np.float32)), extra_blocks=True
    )
    expected = np.concatenate([m.numpy().mean((2, 3)) for m in [*maps, y]], 1)
    engine = open_features(done.backbone)
    engine.input[:] = picture
    np.testing.assert_allclose(engine.infer(), expected, atol=1e-4 * np.abs(expected).max())
    assert done.error < 1e-4


def test_features_per_position_are_what_timm_computes(weights: Path, tmp_path: Path) -> None:
    """Levels 4 to 6, of strides 8 and 16: 16 + 24 + 32 channels, projected to 20."""
    given = Given(size=(64, 96), local=20)
    backbone = export_backbone(NAME, tmp_path / "out", given, weights).backbone
    assert backbone.local == Local(
        dim=20, rows=4, columns=6, stride=16, levels=("level4", "level5", "level6"), seed=0
    )
    pictures = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
    x = (pictures[..., ::-1].astype(np.float64) / 255 - np.array(NOTES["mean"])) / np.array(NOTES["std"])
    model = _network()
    y = model.bn1(model.conv_stem(torch.from_numpy(x.transpose(0, 3, 1, 2).astype(np.float32))))
    maps = []
    for block in model.blocks[:5]:
        y = block(y)
        maps.append(y.numpy())
    fine = maps[2].reshape(2, 16, 4, 2, 6, 2).mean((3, 5))
    joined = np.concatenate([fine, *maps[3:]], 1).reshape(2, 72, 24).transpose(0, 2, 1)
    expected = joined @ projection(72, 20, 0)
    engine = open_features(backbone, batch=2, local=True)
    engine.input[:] = pictures
    engine.infer()
    np.testing.assert_allclose(engine.local, expected, atol=1e-4 * np.abs(expected).max())


def test_few_channels_stay_as_they_are_and_local_can_be_left_out(weights: Path, tmp_path: Path) -> None:
    given = Given(size=(64, 64), local_levels="5")
    local = export_backbone(NAME, tmp_path / "one", given, weights).backbone.local
    assert local is not None
    assert (local.dim, local.levels, local.seed) == (24, ("level5",), None)
    without = Given(size=(64, 64), local=0)
    assert export_backbone(NAME, tmp_path / "none", without, weights).backbone.local is None


@pytest.mark.parametrize("levels", ["9-12", "x"])
def test_local_levels_that_are_none_are_refused(weights: Path, levels: str) -> None:
    _refused(weights, "--local-levels", given=Given(size=(64, 64), local_levels=levels))


def test_local_levels_must_be_kept_and_have_a_map(weights: Path, tmp_path: Path) -> None:
    kept = Given(size=(64, 64), levels="1-4", local_levels="5")
    _refused(weights, "level5 is not among the levels .*--levels keeps", given=kept)
    pooled = Given(size=(64, 64), local_levels="8")
    with pytest.raises(ConfigError, match="level8 has no positions, it is pooled"):
        export_backbone("mobilenetv3_small_050", tmp_path / "out", pooled, seed=0)


@pytest.mark.parametrize("side", [80, 75])
def test_sizes_that_are_no_multiple_of_the_coarsest_stride(tmp_path: Path, side: int) -> None:
    """80 = 5 cells of 16 but 2.5 of 32; 75: the last cell of every grid reaches over the edge."""
    given = Given(size=(side, 64), local_levels="3-8")
    local = export_backbone(NAME, tmp_path / "out", given, seed=0).backbone.local
    assert local is not None
    assert (local.rows, local.columns) == (5, 4)


def test_chosen_levels_are_the_same_columns(weights: Path, tmp_path: Path) -> None:
    whole = export_backbone(NAME, tmp_path / "whole", SMALL, weights).backbone
    some = export_backbone(
        NAME, tmp_path / "some", Given(size=(64, 64), levels="2,5-7"), weights
    ).backbone
    assert [lv.name for lv in some.levels] == ["level2", "level5", "level6", "level7"]
    assert [lv.tensor for lv in some.levels] == ["blocks.0", "blocks.3", "blocks.4", "blocks.5"]
    pooled = []
    for backbone in (whole, some):
        engine = open_features(backbone)
        engine.input[:] = np.arange(engine.input.size).reshape(engine.input.shape) % 251
        pooled.append(engine.infer()[0])
    for level in some.levels:
        twin = next(lv for lv in whole.levels if lv.name == level.name)
        expected = pooled[0][twin.offset : twin.offset + twin.dim]
        np.testing.assert_allclose(
            pooled[1][level.offset :][: level.dim], expected, rtol=1e-4, atol=1e-6
        )
    # What lies behind the last level is not in the graph.
    assert some.onnx_path.stat().st_size < 0.5 * whole.onnx_path.stat().st_size


@pytest.mark.parametrize(
    ("name", "widths", "strides"),
    [
        ("mobilenetv2_035", [16, 8, 8, 16, 24, 32, 56, 112, 1280], [2, 2, 4, 8, 16, 16, 32, 32, 32]),
        ("mobilenetv3_small_050", [16, 8, 16, 24, 24, 48, 288, 1024], [2, 4, 8, 16, 16, 32, 32, 32]),
        ("resnet18", [64, 64, 128, 256, 512], [4, 4, 8, 16, 32]),
        ("resnetv2_18", [64, 64, 128, 256, 512], [4, 4, 8, 16, 32]),
    ],
)
def test_levels_of_each_family(tmp_path: Path, name: str, widths: list[int], strides: list[int]) -> None:
    backbone = export_backbone(name, tmp_path / "out", SMALL, seed=0).backbone
    assert [lv.dim for lv in backbone.levels] == widths
    assert [lv.stride for lv in backbone.levels] == strides
    assert backbone.spec.source == {"kind": "seed", "seed": 0, "model_args": {}}
    assert mixing(backbone.onnx_path, (2, 64, 64, 3), torch.uint8)[0] == {}


def test_the_paper_network_has_its_nine_levels(tmp_path: Path) -> None:
    backbone = export_backbone("tf_efficientnet_b4.aa_in1k", tmp_path / "out", SMALL, seed=0).backbone
    assert [lv.dim for lv in backbone.levels] == [48, 24, 32, 56, 112, 160, 272, 448, 1792]
    assert backbone.levels[6].tensor == "blocks.5"
    assert backbone.dim == 2944


def test_the_same_weights_give_the_same_files(weights: Path, tmp_path: Path) -> None:
    first = export_backbone(NAME, tmp_path / "a", SMALL, weights).backbone
    second = export_backbone(NAME, tmp_path / "b", SMALL, weights).backbone
    for name in ("backbone.onnx", "backbone.json"):
        assert (first.directory / name).read_bytes() == (second.directory / name).read_bytes()


def test_what_was_stated_is_recorded_and_what_was_not_is_said(weights: Path, tmp_path: Path) -> None:
    said: list[str] = []
    given = Given(mean=(0.1, 0.2, 0.3), size=(64, 96))
    spec = export_backbone(NAME, tmp_path / "out", given, weights, say=said.append).backbone.spec
    assert spec.normalisation.mean == (0.1, 0.2, 0.3)  # an option comes before the notes
    assert spec.normalisation.std == (0.2, 0.3, 0.4)
    assert (spec.input.height, spec.input.width) == (64, 96)
    assert spec.source["licence"] == "own"
    assert spec.source["model_args"] == NOTES["model_args"]
    names = [text.split()[0] for text in spec.defaults_used]
    assert names == ["levels", "batch", "local", "local_levels"]
    assert said == [f"default: {text}" for text in spec.defaults_used]


def test_without_notes_every_default_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bare.safetensors"
    save_file(timm.create_model(NAME).state_dict(), path)
    spec = export_backbone(NAME, tmp_path / "out", SMALL, path).backbone.spec
    keys = [text.split()[0] for text in spec.defaults_used]
    assert keys == ["mean", "std", "color", "scale", "levels", "batch", "local", "local_levels"]
    assert spec.normalisation.mean == (0.485, 0.456, 0.406)


def _refused(weights: Path, message: str, name: str = NAME, given: Given = SMALL) -> None:
    """Refused with this message in one line, with nothing written or left behind."""
    parent = weights.parent / "results"
    with pytest.raises((ArtifactError, ConfigError), match=message) as caught:
        export_backbone(name, parent / "out", given, weights)
    assert "\n" not in str(caught.value)
    assert not parent.exists() or not list(parent.iterdir())


def test_a_shape_that_differs_is_refused_with_both(weights: Path) -> None:
    message = r"classifier.bias is \[7\], the network's is \[5\]; give --num-classes"
    _refused(weights, message, given=Given(size=(64, 64), model_args={"num_classes": 5}))


def test_a_missing_or_unknown_tensor_is_named(weights: Path) -> None:
    _rewrite(weights, conv_head__weight=None)
    _refused(weights, r"1 tensors of the network are missing \(first: conv_head.weight\)")
    _rewrite(weights, conv_head__weight=_network().conv_head.weight, stray=torch.zeros(1))
    _refused(weights, r"1 are unknown to it \(first: stray\)")


def test_weights_of_another_network_are_refused_naming_both(weights: Path) -> None:
    _refused(
        weights, "weights of mobilenetv2_035 by net.json, asked for mobilenetv2_050", "mobilenetv2_050"
    )


def test_weights_with_another_sha256_are_refused(weights: Path) -> None:
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    _refused(weights, "sha256 is [0-9a-f]{64}, net.json says [0-9a-f]{64}")


def test_weights_that_are_not_finite_are_refused(weights: Path) -> None:
    _rewrite(weights, conv_head__weight=torch.full_like(_network().conv_head.weight, torch.nan))
    _refused(weights, "level9 differs from torch by nan.*nothing was written")


def test_only_safetensors_is_read(weights: Path) -> None:
    pickle = weights.with_name("net.pth")
    torch.save(_network().state_dict(), pickle)
    _refused(pickle, "a pickle, which can run code when it is read; only .safetensors is loaded")
    pickle.rename(weights.with_name("renamed.safetensors"))
    _refused(weights.with_name("renamed.safetensors"), "not a whole safetensors file")
    _refused(weights.with_name("absent.safetensors"), "no such weights file")


def test_truncated_weights_are_refused(weights: Path) -> None:
    weights.write_bytes(weights.read_bytes()[:-100])
    weights.with_suffix(".json").unlink()
    _refused(weights, "not a whole safetensors file", given=Given(model_args=NOTES["model_args"]))


@pytest.mark.parametrize("text", ["{", '{"std": [1, 0, 1]}', '{"color": "HSV"}', '{"mean": [1]}'])
def test_notes_that_cannot_be_right_are_refused(weights: Path, text: str) -> None:
    weights.with_suffix(".json").write_text(text)
    _refused(weights, "net.json: notes on the weights cannot be read")


def test_networks_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Unknown model \(nope\).*'edge-ad backbone list'"):
        export_backbone("nope", tmp_path / "out", SMALL, seed=0)
    with pytest.raises(ConfigError, match="unexpected keyword argument 'frob'"):
        export_backbone(NAME, tmp_path / "out", Given(model_args={"frob": 1}), seed=0)
    with pytest.raises(ConfigError, match="a VisionTransformer, not an EfficientNet"):
        export_backbone("vit_tiny_patch16_224", tmp_path / "out", Given(), seed=0)
    with pytest.raises(ConfigError, match="exclude each other"):
        export_backbone(NAME, tmp_path / "out", SMALL, tmp_path / "w.safetensors", seed=0)


def test_a_refused_export_leaves_the_one_before(weights: Path, tmp_path: Path) -> None:
    before = export_backbone(NAME, tmp_path / "out", SMALL, weights).backbone
    with pytest.raises(ConfigError, match=r"outside 1\.\.9"):
        export_backbone(NAME, tmp_path / "out", Given(size=(64, 64), levels="10"), weights)
    assert load_backbone(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("text", "indices"),
    [("all", [0, 1, 2, 3]), ("1", [0]), ("4,1-2", [0, 1, 3]), ("2-3,3", [1, 2])],
)
def test_level_lists(text: str, indices: list[int]) -> None:
    assert parse_levels(text, 4) == indices


@pytest.mark.parametrize("text", ["", "0", "5", "3-2", "a", "1-", "1,,2", "-1"])
def test_level_lists_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match="--levels"):
        parse_levels(text, 4)


def test_architectures_are_compared_by_name_and_stated_tags() -> None:
    assert same_architecture("net", "net.a")
    assert same_architecture("net.a", "net")
    assert not same_architecture("net.a", "net.b")
    assert not same_architecture("net", "net2")


def test_the_tested_networks_are_listed() -> None:
    names = dict(list_networks())
    assert names["tf_efficientnet_b4.aa_in1k"] == 380
    assert names["mobilenetv2_100.ra_in1k"] == 224
    assert not [name for name in names if name.startswith("vit")]


def _edge_ad(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    code = "from edge_ad.cli.main import main; main()"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


def test_the_command_shows_what_it_made(weights: Path, tmp_path: Path) -> None:
    done = _edge_ad(
        *("backbone", "export", NAME, "--weights", str(weights), "-o", str(tmp_path / "out")),
        *("--size", "64", "--levels", "1,9"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert load_backbone(tmp_path / "out").sha256 in done.stdout
    assert "default: batch = 1" in done.stdout
    assert "level9  bn2     1280   32" in done.stdout
    assert "no local features: none of the levels has a middle stride" in done.stdout


def test_an_unreachable_hub_is_said_with_the_offline_way(tmp_path: Path) -> None:
    done = _edge_ad(
        *("backbone", "export", "mobilenetv2_100", "-o", str(tmp_path / "out")),
        HF_HUB_OFFLINE="1",
        HF_HOME=str(tmp_path),
    )
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
    assert "the hub cannot be reached" in done.stderr
    assert "model.safetensors and pass it with --weights" in done.stderr


def test_without_torch_the_extra_is_named(tmp_path: Path) -> None:
    code = "import sys; sys.modules['torch'] = None\nfrom edge_ad.cli.main import main; main()"
    command = [sys.executable, "-c", code, "backbone", "export", NAME, "-o", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "edge-ad: exporting needs torch, which is not installed; pip install 'edge_ad[export]'"
    ]


def test_the_shared_imagenet_weights_export(shared: Path, tmp_path: Path) -> None:
    path = shared / "weights/mobilenetv2_100.safetensors"
    done = export_backbone("mobilenetv2_100", tmp_path / "out", Given(), path)
    assert [lv.dim for lv in done.backbone.levels] == [32, 16, 24, 32, 64, 96, 160, 320, 1280]
    assert (done.backbone.height, done.backbone.width) == (224, 224)
    assert done.backbone.spec.normalisation.mean == (0.5, 0.5, 0.5)
    assert done.error < 1e-4
