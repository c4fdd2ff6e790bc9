"""The result of the publication's protocol for people, beside the publication's own numbers."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from edge_ad.evaluate.protocol import FOLDS, Mean, ProtocolResult
from edge_ad.evaluate.published import CLASSES, MEAN, NPCA_SEM, PER_CLASS, level_column
from edge_ad.evaluate.table import plain_table


def protocol_tables(result: ProtocolResult) -> RenderableType:
    """Classes and levels in per cent; what is missing is named."""
    head = Text.from_markup(
        f"[bold]protocol paper[/]  {escape(result.backbone.name)}, reduction {result.reduction}: "
        f"{FOLDS} folds of train/good, each on the whole test split; no augmentation"
    )
    notes = []
    if result.missing:
        notes.append(
            f"means are over {len(result.classes)} of {len(CLASSES)} classes; missing: "
            f"{', '.join(result.missing)}"
        )
    if result.other:
        notes.append(f"no classes of MVTec AD, left out: {', '.join(result.other)}")
    return Group(head, _classes(result), _levels(result), Text("\n".join(notes)))


def _classes(result: ProtocolResult) -> Table:
    table = plain_table("class", "measured", "published", "published, NPCA 1 %")
    table.title = "image AUROC of the sum over levels, %"
    for name, one in result.classes.items():
        published = PER_CLASS[name]
        row = (f"{100 * one.image_auroc:.1f}", f"{published.plain:.1f}", f"{published.npca:.1f}")
        table.add_row(name, *row)
    table.add_section()
    if result.missing:
        same = [PER_CLASS[name] for name in result.classes]
        plain, npca = (sum(p[i] for p in same) / len(same) for i in (0, 1))
        table.add_row("mean +- SEM", _mean(result.image_auroc), f"{plain:.1f}", f"{npca:.1f}")
    else:
        npca_text = f"{MEAN.npca:.1f} +- {NPCA_SEM}"
        table.add_row("mean +- SEM", _mean(result.image_auroc), f"{MEAN.plain:.1f}", npca_text)
    table.caption = "published: EfficientNet-B4, with augmentation"
    return table


def _levels(result: ProtocolResult) -> Table:
    """Published levels stand beside measured ones where the network has as many."""
    column = level_column(result.backbone.name)
    table = plain_table("level", "measured", f"published, {column.network}")
    table.title = "image AUROC of each level, mean +- SEM over classes, %"
    matching = len(result.levels) == len(column.auroc) - 1

    def published(i: int) -> str:
        sem = "" if column.sem is None else f" +- {column.sem[i]}"
        return f"{column.auroc[i]}{sem}"

    for i, name in enumerate(result.levels):
        table.add_row(escape(name), _mean(result.per_level[name]), published(i) if matching else "")
    table.add_section()
    table.add_row("sum", _mean(result.image_auroc), published(-1))
    table.caption = "published: all 15 classes, no augmentation, no reduction"
    return table


def _mean(value: Mean) -> str:
    sem = "" if value.sem is None else f" +- {100 * value.sem:.1f}"
    return f"{100 * value.mean:.1f}{sem}"
