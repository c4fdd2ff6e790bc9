"""timm network -> `backbone.onnx` + `backbone.json`. The only file that imports torch, timm and onnx."""

from __future__ import annotations

import importlib.metadata
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_ad.backbone.families import FAMILIES, Step, network_steps
from edge_ad.backbone.grid import AUTO, choose_local, join
from edge_ad.backbone.openvino import open_features
from edge_ad.backbone.spec import (
    JSON_NAME,
    ONNX_NAME,
    Backbone,
    BackboneSpec,
    Input,
    Level,
    Local,
    Normalisation,
    Outputs,
    Pooled,
    encode_spec,
    file_sha256,
    load_backbone,
)
from edge_ad.backbone.weights import (
    Given,
    Notes,
    Say,
    Settings,
    check_weights,
    fetch_weights,
    load_weights,
    parse_levels,
    resolve,
)
from edge_ad.errors import ArtifactError, ConfigError

OPSET = 17
# Largest difference between the exported graph and torch, relative to the level's largest feature.
TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Export:
    """The backbone that was written, and its largest relative difference from torch."""

    backbone: Backbone
    error: float


def export_backbone(
    name: str,
    directory: Path,
    given: Given,
    weights: Path | None = None,
    seed: int | None = None,
    say: Say = lambda _: None,
) -> Export:
    """Export timm's network `name` into `directory`, from `weights`, a random `seed` or the hub.

    Raises ConfigError for an unknown network, level or argument, ArtifactError for weights that do not
    fit or a graph that does not compute what torch does. Nothing is written then.
    """
    torch, timm = _libraries()
    notes = Notes()
    source: dict[str, Any] = {"kind": "seed", "seed": seed}
    if weights is not None:
        if seed is not None:
            raise ConfigError("--weights and --seed exclude each other; give one")
        notes, raw, sha256 = check_weights(weights, name)
        source = {**raw, "kind": "file", "file": weights.name, "sha256": sha256}
    torch.manual_seed(seed or 0)
    arguments = {**notes.model_args, **given.model_args}
    model = _create(timm, name, arguments)
    config = model.pretrained_cfg
    if weights is None and seed is None:
        weights = fetch_weights(config, name, say)
        source = {"kind": "hub", "repository": config["hf_hub_id"], "sha256": file_sha256(weights)}
    if weights is not None:
        load_weights(model, weights)
    model.eval().requires_grad_(False)
    source["model_args"] = arguments
    settings = resolve(given, notes, config, f"timm's configuration of {name}")
    for default in settings.defaults_used:
        say(f"default: {default}")

    steps = network_steps(timm, model, name)
    chosen = parse_levels(settings.levels, len(steps))
    graph = _graph(torch, steps[: chosen[-1] + 1], chosen, settings.normalisation)
    levels = _measure(torch, graph, chosen, [path for path, _ in steps], settings.size)
    local = _local(settings, levels, len(steps), say)
    graph.local, graph.levels = local, levels
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{directory.name}-", dir=directory.parent) as temporary:
        stage = Path(temporary)
        _write_onnx(torch, graph, stage / ONNX_NAME, settings)
        outputs = Outputs(_pooled(levels), local)
        spec = _spec(name, source, settings, outputs, stage / ONNX_NAME, timm, torch)
        (stage / JSON_NAME).write_bytes(encode_spec(spec))
        error = _verify(torch, graph, load_backbone(stage))
        directory.mkdir(exist_ok=True)
        for file in (ONNX_NAME, JSON_NAME):
            (stage / file).replace(directory / file)
    return Export(load_backbone(directory), error)


def list_networks(pattern: str = "") -> list[tuple[str, int]]:
    """Names that `export_backbone` takes and their input side, optionally with a shell pattern."""
    _, timm = _libraries()
    names = {n for family in FAMILIES for n in timm.list_models(pattern, module=family, pretrained=True)}
    return [(n, timm.get_pretrained_cfg(n).input_size[1]) for n in sorted(names)]


def _libraries() -> tuple[Any, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import onnx  # noqa: F401  (torch.onnx needs it, and says so only after minutes)
            import timm
            import torch
    except ImportError as error:
        raise ConfigError(
            f"exporting needs {error.name}, which is not installed; pip install 'edge_ad[export]'"
        ) from error
    return torch, timm


def _create(timm: Any, name: str, arguments: dict[str, Any]) -> Any:
    try:
        return timm.create_model(name, pretrained=False, **arguments)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{name} {arguments or ''}: timm refuses it: {error}; "
            "'edge-ad backbone list' shows the names"
        ) from error


def _graph(torch: Any, steps: list[Step], chosen: list[int], normalisation: Normalisation) -> Any:
    """uint8 BGR [B, H, W, 3] -> the pooled features of each chosen level; once `levels` and `local` are
    set, the features per position too."""
    # (x * scale - mean) / std = (x - mean / scale) * (scale / std): the product merges into the first
    # convolution, the difference cannot, because that convolution pads with zeros.
    shift = torch.tensor(normalisation.mean).div(normalisation.scale).view(1, 3, 1, 1)
    factor = torch.tensor(normalisation.std).reciprocal().mul(normalisation.scale).view(1, 3, 1, 1)
    order = [2, 1, 0] if normalisation.color == "RGB" else [0, 1, 2]

    class Graph(torch.nn.Module):  # type: ignore[misc]
        local: Local | None = None
        levels: tuple[Level, ...] = ()

        def maps(self, image: Any) -> list[Any]:
            x = (image.permute(0, 3, 1, 2)[:, order].float() - shift) * factor
            found = []
            for i, (_, step) in enumerate(steps):
                x = step(x)
                if i in chosen:
                    found.append(x)
            return found

        def forward(self, image: Any) -> Any:
            maps = self.maps(image)
            pooled = torch.cat([m.mean((2, 3)) if m.ndim == 4 else m for m in maps], 1)
            if self.local is None:
                return (pooled,)
            names = self.local.levels
            used = [i for i, level in enumerate(self.levels) if level.name in names]
            chosen_maps, levels = [maps[i] for i in used], [self.levels[i] for i in used]
            return pooled, join(torch, chosen_maps, levels, self.local)

    return Graph().eval()


def _measure(
    torch: Any, graph: Any, chosen: list[int], paths: list[str], size: tuple[int, int]
) -> tuple[Level, ...]:
    """Each level's width and stride, from a run on a blank picture."""
    levels: list[Level] = []
    offset, stride = 0, 1
    with torch.no_grad():
        maps = graph.maps(torch.zeros(1, *size, 3, dtype=torch.uint8))
    for index, found in zip(chosen, maps, strict=True):
        if found.ndim == 4:
            stride = 2 ** round(float(np.log2(size[0] / found.shape[2])))
        dim = int(found.shape[1])
        levels.append(Level(f"level{index + 1}", paths[index], dim, stride, offset))
        offset += dim
    return tuple(levels)


def _local(settings: Settings, levels: tuple[Level, ...], count: int, say: Say) -> Local | None:
    """What the output `local` is made of; None where nobody wants it or no level serves."""
    if not settings.local:
        return None
    wanted = None
    if settings.local_levels != AUTO:
        numbers = parse_levels(settings.local_levels, count, "--local-levels")
        wanted = [f"level{number + 1}" for number in numbers]
    local = choose_local(levels, "level1", wanted, settings.local, settings.size)
    if local is None:
        say("no local features: none of the levels has a middle stride; profile 'paper' alone will do")
    return local


def _pooled(levels: tuple[Level, ...]) -> Pooled:
    return Pooled(sum(level.dim for level in levels), levels)


def _write_onnx(torch: Any, graph: Any, path: Path, settings: Settings) -> None:
    image = torch.zeros(settings.batch, *settings.size, 3, dtype=torch.uint8)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer warns of every shape that it fixes, as it should
        torch.onnx.export(
            graph,
            (image,),
            str(path),
            dynamo=False,  # TensorRT 8.5 and later read what this exporter writes
            opset_version=OPSET,
            input_names=["image"],
            output_names=["pooled", "local"] if graph.local else ["pooled"],
        )


def _spec(
    name: str,
    source: dict[str, Any],
    settings: Settings,
    outputs: Outputs,
    onnx_path: Path,
    timm: Any,
    torch: Any,
) -> BackboneSpec:
    height, width = settings.size
    return BackboneSpec(
        name=name,
        source=source,
        onnx_sha256=file_sha256(onnx_path),
        opset=OPSET,
        input=Input(batch=settings.batch, height=height, width=width),
        normalisation=settings.normalisation,
        outputs=outputs,
        defaults_used=settings.defaults_used,
        versions={
            "edge_ad": importlib.metadata.version("edge_ad"),
            "timm": timm.__version__,
            "torch": str(torch.__version__),
        },
    )


def _verify(torch: Any, graph: Any, backbone: Backbone) -> float:
    """The largest difference from torch on two pictures, relative to each level's largest feature.

    Two rows, so that a graph that cannot be reshaped to another batch is found here.
    """
    rng = np.random.default_rng(0)
    engine = open_features(backbone, batch=2, local=backbone.local is not None)
    engine.input[0] = rng.integers(0, 256, engine.input.shape[1:])
    engine.input[1] = np.linspace(0, 255, engine.input[1].size).reshape(engine.input.shape[1:])
    found = engine.infer()
    with torch.no_grad():
        expected = [output.numpy() for output in graph(torch.from_numpy(engine.input))]
    compared = []
    for level in backbone.levels:
        columns = slice(level.offset, level.offset + level.dim)
        compared.append((level.name, found[:, columns], expected[0][:, columns]))
    if engine.local is not None:
        compared.append(("local", engine.local, expected[1]))
    worst = 0.0
    for what, ours, theirs in compared:
        error = float(np.abs(ours - theirs).max()) / (float(np.abs(theirs).max()) or 1.0)
        if not error <= TOLERANCE:
            raise ArtifactError(
                f"{backbone.name}: {what} differs from torch by {error:.1e} of its largest, "
                f"allowed {TOLERANCE:.0e}; nothing was written, check the weights for NaN and overflow"
            )
        worst = max(worst, error)
    return worst
