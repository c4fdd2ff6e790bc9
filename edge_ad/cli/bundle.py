"""`edge-ad bundle`: list, show, verify, activate and roll back calibrations."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from edge_ad.cli.output import json_option, write_json

SHADOW_S = 120.0  # it starts with what the line leaves of the CPU
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Place:
    """Which product's bundles are meant."""

    state: Path
    product: str
    endpoint: str
    secret: Path | None = None


def place_options(function: F) -> F:
    """Add `-c line.toml`, or `--state DIR` with `--product NAME`."""
    for option in (
        click.option("--product", help="Product, with --state.  [default: default]"),
        click.option(
            "--state", type=click.Path(path_type=Path), help="The state directory, without a file."
        ),
        click.option("-c", "--config", type=click.Path(path_type=Path), help="The station file."),
    ):
        function = option(function)
    return function


reason_option = click.option("--reason", default="", help="Why; 'edge-ad audit' shows it.")


def find_place(config: Path | None, state: Path | None, product: str | None) -> Place:
    """From the options. Raises ConfigError unless one of -c and --state is given."""
    from edge_ad.config import load_station
    from edge_ad.errors import ConfigError

    if (config is None) == (state is None):
        raise ConfigError("bundle: give either -c line.toml or --state DIR (with --product NAME)")
    if config is not None:
        station = load_station(config)
        return Place(
            station.state_path,
            product or station.product,
            station.control_endpoint,
            station.curve_secret,
        )
    assert state is not None
    state = state.absolute()
    return Place(state, product or "default", f"ipc://{state / 'control.sock'}")


def find_bundle(bundle: str, config: Path | None, state: Path | None, product: str | None) -> Path:
    """The directory of `bundle`: a path, or an id, `current` or `previous` of the place."""
    from edge_ad.bundle.store import product_directory

    if config is None and state is None and Path(bundle).exists():
        return Path(bundle)
    place = find_place(config, state, product)
    path = product_directory(place.state, place.product) / bundle
    return path if path.exists() or not Path(bundle).exists() else Path(bundle)


@click.group()
def command() -> None:
    """List, show, verify, activate, roll back calibrations."""


@command.command("list")
@place_options
@json_option
def list_command(
    config: Path | None, state: Path | None, product: str | None, json_to: str | None
) -> None:
    """Every bundle of the product, oldest first; * is the one in use."""
    from edge_ad.bundle import list_bundles
    from edge_ad.bundle.describe import entry_line, entry_summary

    place = find_place(config, state, product)
    entries = list_bundles(place.state, place.product)
    if json_to:
        write_json([entry_summary(entry) for entry in entries], json_to)
        return
    if not entries:
        click.echo(f"no bundles of {place.product!r} in {place.state}; 'edge-ad calibrate' makes one")
    for entry in entries:
        click.echo(entry_line(entry))


@command.command()
@click.argument("bundle", default="current")
@place_options
@json_option
def show(
    bundle: str, config: Path | None, state: Path | None, product: str | None, json_to: str | None
) -> None:
    """What BUNDLE (an id, a path, current or previous) is and promises, once it is verified."""
    from edge_ad.bundle import open_bundle
    from edge_ad.bundle.describe import bundle_lines, bundle_summary

    opened = open_bundle(find_bundle(bundle, config, state, product))
    if json_to:
        write_json(bundle_summary(opened), json_to)
        return
    for line in bundle_lines(opened):
        click.echo(line)


@command.command()
@click.argument("bundle", default="current")
@click.option(
    "--backbone", type=click.Path(path_type=Path), help="The network's directory, if elsewhere."
)
@place_options
@json_option
def verify(
    bundle: str,
    backbone: Path | None,
    config: Path | None,
    state: Path | None,
    product: str | None,
    json_to: str | None,
) -> None:
    """Check every byte of BUNDLE and of its backbone. Exit code 3 when it is refused."""
    from edge_ad.bundle import open_bundle

    opened = open_bundle(find_bundle(bundle, config, state, product), backbone)
    network = opened.backbone()
    files = len(opened.manifest.files) + 2
    problem = opened.detection.problem
    if json_to:
        summary = {"ok": True, "id": opened.manifest.id, "sha256": opened.sha256, "files": files}
        write_json({**summary, "qualification_problem": problem}, json_to)
        return
    click.echo(
        f"{opened.path}: {files} files as written, backbone {network.name} {network.sha256[:12]} as "
        "calibrated"
    )
    if problem:
        click.echo(f"qualification is damaged: {problem}")


@command.command()
@click.argument("bundle")
@place_options
@reason_option
def activate(
    bundle: str, config: Path | None, state: Path | None, product: str | None, reason: str
) -> None:
    """Use the bundle with this id from now on."""
    from edge_ad.bundle import activate as activate_bundle

    place = find_place(config, state, product)
    with _on_record("activate", place, bundle, reason):
        path = activate_bundle(place.state, place.product, bundle)
    _tell(path, place)


@command.command()
@place_options
@reason_option
def rollback(config: Path | None, state: Path | None, product: str | None, reason: str) -> None:
    """Use the bundle before this one; once more returns."""
    from edge_ad.bundle import previous_path
    from edge_ad.bundle import rollback as roll_back

    place = find_place(config, state, product)
    previous = previous_path(place.state, place.product)
    with _on_record("rollback", place, "" if previous is None else previous.name, reason):
        path = roll_back(place.state, place.product)
    _tell(path, place)


@command.command()
@click.argument("bundle", default="")
@click.option("--stop", is_flag=True, help="No bundle judges beside the one in use any more.")
@place_options
@reason_option
def shadow(
    bundle: str, stop: bool, config: Path | None, state: Path | None, product: str | None, reason: str
) -> None:
    """Have BUNDLE (an id) judge parts beside the one in use; it decides nothing.

    It runs in a process of its own on what the line leaves of the CPU, one part at a time: 'edge-ad
    bundle compare' shows on which parts both disagree. 'calibrate --shadow' makes such a bundle.
    """
    from edge_ad.bundle import shadow as have_judge
    from edge_ad.calibrate.link import reload_daemon
    from edge_ad.delivery.lock import running_pid
    from edge_ad.errors import ConfigError

    if stop == bool(bundle):
        raise ConfigError("bundle shadow: give a bundle's id, or --stop")
    place = find_place(config, state, product)
    with _on_record("shadow", place, bundle or "none", reason):
        path = have_judge(place.state, place.product, bundle)
    told = f"{path.name} is to judge beside the one in use" if path is not None else "none is compared"
    click.echo(f"{place.product}: {told}")
    click.echo(reload_daemon(place.state, place.endpoint, place.secret))
    if path is not None and running_pid(place.state) is not None:
        _wait_for_shadow(place, bundle)
        click.echo(f"{bundle} judges beside the one in use")


def _wait_for_shadow(place: Place, bundle: str) -> None:
    """Raises CheckFailed with the daemon's words where it does not judge."""
    from edge_ad.delivery.access import open_control_at
    from edge_ad.errors import CheckFailed

    end = time.monotonic() + SHADOW_S
    with open_control_at(place.endpoint, place.secret) as client:
        while True:
            status = client.request("status")
            if status.get("shadow") == bundle:
                return
            if status.get("product") != place.product:
                raise CheckFailed(
                    f"the line makes {status.get('product')!r} now; it judges once it is made"
                )
            if status.get("shadow_why") or time.monotonic() > end:
                raise CheckFailed(status.get("shadow_why") or f"it does not judge after {SHADOW_S:g} s")
            time.sleep(0.2)


@command.command()
@click.argument("bundle", default="")
@click.option("--last", default=20, show_default=True, type=click.IntRange(min=0), help="Parts listed.")
@place_options
@json_option
def compare(
    bundle: str,
    last: int,
    config: Path | None,
    state: Path | None,
    product: str | None,
    json_to: str | None,
) -> None:
    """How far BUNDLE (an id; without it the one that judges now) agrees with the one in use.

    Of the parts of the line that both judged while the one in use was in use.
    """
    from edge_ad.bundle import candidate_path, current_path, open_bundle
    from edge_ad.engines import REFERENCE
    from edge_ad.errors import ArtifactError
    from edge_ad.shadow.log import compare as compare_parts
    from edge_ad.shadow.log import log_path

    place = find_place(config, state, product)
    candidate = candidate_path(place.state, place.product)
    current = current_path(place.state, place.product)
    name = bundle or (candidate.name if candidate is not None else "")
    if not name or current is None:
        raise ArtifactError(
            f"{place.state}: no bundle of {place.product!r} is compared; 'edge-ad bundle shadow ID' "
            "begins that"
        )
    path = log_path(place.state, place.product, name)
    found = compare_parts(path, open_bundle(current).sha256, last)
    if json_to:
        write_json({"in_use": current.name, "shadow": name, **msgspec.to_builtins(found)}, json_to)
        return
    click.echo(f"{name} beside {current.name}: {found.parts} parts, {found.agree} with the same verdict")
    if found.engines and found.engines != [REFERENCE.key]:
        click.echo(f"{name} judges by {REFERENCE.key}, the one in use by {', '.join(found.engines)}")
    for change, parts in sorted(found.changed.items()):
        click.echo(f"{parts:>7}  {change}")
    for pair in found.disagreeing:
        now, then = (f"{r:.3f}" if r is not None else "-" for r in (pair.ratio, pair.shadow_ratio))
        click.echo(f"  {pair.part}  {pair.verdict} {now} -> {pair.shadow_verdict} {then}")


@contextmanager
def _on_record(what: str, place: Place, bundle: str, reason: str) -> Iterator[None]:
    """Record what is done before it is done, and also where it fails."""
    from edge_ad.audit import record
    from edge_ad.errors import EdgeAdError

    record(place.state, what, product=place.product, reason=reason, detail={"bundle": bundle})
    try:
        yield
    except EdgeAdError as error:
        detail = {"bundle": bundle, "why": str(error)}
        record(place.state, f"{what} refused", product=place.product, detail=detail)
        raise


def _tell(path: Path, place: Place) -> None:
    """Say what is active, and have a running daemon take it."""
    from edge_ad.calibrate.link import reload_daemon

    click.echo(f"{place.product}: {path.name} is active")
    click.echo(reload_daemon(place.state, place.endpoint, place.secret))
