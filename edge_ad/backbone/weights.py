"""A weights file and what is known about it: `FILE.safetensors` and `FILE.json` beside it.

The JSON's keys, all optional: `architecture`, `model_args` (of timm.create_model), `color` ("RGB" or
"BGR"), `scale`, `mean`, `std` (`(x * scale - mean) / std`), `size` ([height, width]), `sha256` of the
weights, and anything else, which is recorded as it is. Options given by a person come first, then the
JSON, then defaults, and every default is named. Only safetensors is read: a pickle can run code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from edge_ad.backbone.grid import AUTO, DIM, MIDDLE
from edge_ad.backbone.spec import Normalisation, file_sha256
from edge_ad.errors import ArtifactError, ConfigError

PICKLES = {".pth", ".pt", ".bin", ".pkl", ".ckpt", ".tar"}
Say = Callable[[str], None]
Channels = tuple[float, float, float]
Side = Annotated[int, Meta(ge=32, le=4096)]


class Notes(msgspec.Struct, frozen=True):
    """What `FILE.json` may say; None where it says nothing."""

    architecture: str | None = None
    model_args: dict[str, Any] = {}
    color: Literal["RGB", "BGR"] | None = None
    scale: Annotated[float, Meta(gt=0)] | None = None
    mean: Channels | None = None
    std: tuple[Annotated[float, Meta(gt=0)], ...] | None = None
    size: tuple[Side, Side] | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Given:
    """What a person gave as options; None or empty where nothing was given."""

    model_args: dict[str, Any] = field(default_factory=dict)
    color: Literal["RGB", "BGR"] | None = None
    scale: float | None = None
    mean: Channels | None = None
    std: Channels | None = None
    size: tuple[int, int] | None = None
    levels: str | None = None
    batch: int | None = None
    local: int | None = None  # dimensions of the output `local`; 0: no such output
    local_levels: str | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that decides the graph but the weights, and which of it nobody stated."""

    normalisation: Normalisation
    size: tuple[int, int]
    levels: str
    batch: int
    local: int  # dimensions of the output `local`, 0: none
    local_levels: str  # as `levels`, or "auto"
    defaults_used: tuple[str, ...]


def check_weights(path: Path, name: str) -> tuple[Notes, dict[str, Any], str]:
    """The notes beside a weights file, all of their keys, and the file's sha256.

    Raises ArtifactError when the file is missing or a pickle, or when its sha256 or its architecture is
    not the stated one.
    """
    if not path.is_file():
        raise ArtifactError(f"{path}: no such weights file; give a .safetensors file")
    if path.suffix != ".safetensors":
        kind = (
            "a pickle, which can run code when it is read"
            if path.suffix in PICKLES
            else "not safetensors"
        )
        raise ArtifactError(
            f"{path}: {kind}; only .safetensors is loaded, convert it with safetensors.torch.save_file"
        )
    notes_path = path.with_suffix(".json")
    notes, raw = _read_notes(notes_path) if notes_path.is_file() else (Notes(), {})
    found = file_sha256(path)
    if notes.sha256 is not None and notes.sha256 != found:
        raise ArtifactError(
            f"{path}: sha256 is {found}, {notes_path.name} says {notes.sha256}; fetch the weights again"
        )
    if notes.architecture is not None and not same_architecture(notes.architecture, name):
        raise ArtifactError(
            f"{path}: weights of {notes.architecture} by {notes_path.name}, asked for {name}; "
            f"export {notes.architecture} or give other weights"
        )
    return notes, raw, found


def same_architecture(stated: str, asked: str) -> bool:
    """Whether two timm names mean one network; a tag (`name.tag`) counts when both have one."""
    (a, _, tag_a), (b, _, tag_b) = stated.partition("."), asked.partition(".")
    return a == b and (not tag_a or not tag_b or tag_a == tag_b)


def resolve(given: Given, notes: Notes, config: dict[str, Any], origin: str) -> Settings:
    """Options before notes before `config` (the library's configuration, named `origin` in messages)."""
    defaults: list[str] = []

    def pick(key: str, default: Any, source: str) -> Any:
        for stated in (getattr(given, key), getattr(notes, key, None)):
            if stated is not None:
                return stated
        defaults.append(f"{key} = {_text(default)} ({source})")
        return default

    mean = tuple(pick("mean", tuple(config["mean"]), origin))
    std = tuple(pick("std", tuple(config["std"]), origin))
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise ConfigError(f"mean {mean} and std {std} need three values each, std above 0")
    normalisation = Normalisation(
        color=pick("color", "RGB", "usual"), scale=pick("scale", 1 / 255, "1/255"), mean=mean, std=std
    )
    size = tuple(pick("size", tuple(config["input_size"][1:]), origin))
    levels = pick("levels", "all", "usual")
    batch = pick("batch", 1, "usual")
    local = pick("local", DIM, "usual")
    strides = " and ".join(str(stride) for stride in MIDDLE)
    local_levels = pick("local_levels", AUTO, f"strides {strides}") if local else AUTO
    return Settings(normalisation, size, levels, batch, local, local_levels, tuple(defaults))


def parse_levels(text: str, count: int, option: str = "--levels") -> list[int]:
    """ "all", or 1-based numbers and ranges ("1,4-7"), as sorted indices from 0."""
    if text == "all":
        return list(range(count))
    chosen: set[int] = set()
    for item in text.split(","):
        first, dash, last = item.partition("-")
        try:
            numbers = range(int(first), int(last if dash else first) + 1)
        except ValueError:
            raise ConfigError(f"{option} {text!r}: {item!r} is neither a number nor a range") from None
        if not numbers or numbers[0] < 1 or numbers[-1] > count:
            raise ConfigError(
                f"{option} {text!r}: {item!r} is outside 1..{count}, which this network has"
            )
        chosen |= {n - 1 for n in numbers}
    return sorted(chosen)


def fetch_weights(config: dict[str, Any], name: str, say: Say) -> Path:
    """timm's pretrained weights as safetensors, from the local cache or the hub."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import logging

    repository = config.get("hf_hub_id")
    if not repository:
        raise ConfigError(f"{name}: timm has no weights on the hub for it; give --weights or --seed")
    file = "model.safetensors"
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        try:
            return Path(hf_hub_download(repository, file, local_files_only=True))
        except OSError:
            say(f"fetching {repository} from the hub")
            return Path(hf_hub_download(repository, file))
    except OSError as error:
        raise ArtifactError(
            f"{name}: the hub cannot be reached or lacks {repository}; "
            f"on a machine that reaches it, fetch "
            f"https://huggingface.co/{repository}/resolve/main/{file} and pass it with --weights"
        ) from error


def load_weights(model: Any, path: Path) -> None:
    """Load every tensor of the network from safetensors; names and shapes must be exactly its own."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{path}: not a whole safetensors file: {error}; fetch it again") from error
    own = model.state_dict()
    for key in sorted(own.keys() & state.keys()):
        if own[key].shape != state[key].shape:
            raise ArtifactError(
                f"{path}: {key} is {list(state[key].shape)}, the network's is {list(own[key].shape)}; "
                "give --num-classes or --model-arg as the weights were trained with"
            )
    # Old files lack batch norm's step counter, which inference does not read.
    missing = sorted(k for k in own.keys() - state.keys() if not k.endswith("num_batches_tracked"))
    unknown = sorted(state.keys() - own.keys())
    if missing or unknown:
        raise ArtifactError(
            f"{path}: {len(missing)} tensors of the network are missing (first: {_first(missing)}), "
            f"{len(unknown)} are unknown to it (first: {_first(unknown)}); "
            "give the right name or --model-arg"
        )
    model.load_state_dict(state, strict=False)


def _first(names: list[str]) -> str:
    return names[0] if names else "none"


def _read_notes(path: Path) -> tuple[Notes, dict[str, Any]]:
    try:
        data = path.read_bytes()
        return msgspec.json.decode(data, type=Notes), msgspec.json.decode(data, type=dict[str, Any])
    except (OSError, ValueError, msgspec.DecodeError) as error:
        raise ArtifactError(
            f"{path}: notes on the weights cannot be read: {error}; correct it"
        ) from error


def _text(value: Any) -> str:
    return ",".join(f"{v:g}" for v in value) if isinstance(value, tuple) else str(value)
