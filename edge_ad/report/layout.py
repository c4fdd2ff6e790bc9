"""What every page is made of: the document, sections, tables, cards. Nothing is fetched, no script."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

from edge_ad.report.style import CSS


class Card(NamedTuple):
    """One number of a page's first row; kind "warn" sets it apart."""

    name: str
    value: str
    hint: str
    kind: str = ""


def document(title: str, body: str) -> str:
    """The whole page around `body`."""
    # A number and its unit stay on one line.
    body = body.replace(" %", "&nbsp;%")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{CSS}</style></head>\n<body><main>{body}</main></body></html>\n"
    )


def header(kicker: str, title: str, facts: Iterable[tuple[str, str]]) -> str:
    """What the page is, of which product, and the facts that identify it."""
    items = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in facts)
    return (
        f'<header><p class="kicker">{escape(kicker)}</p><h1>{escape(title)}</h1>'
        f"<dl>{items}</dl></header>\n"
    )


def cards(items: Iterable[Card]) -> str:
    """A row of numbers."""
    blocks = "".join(
        f'<div class="card {card.kind}"><p class="name">{escape(card.name)}</p>'
        f'<p class="value">{escape(card.value)}</p><p class="hint">{escape(card.hint)}</p></div>'
        for card in items
    )
    return f'<div class="cards">{blocks}</div>'


def chapter(title: str, content: str) -> str:
    """`content` is HTML already."""
    return f"<section><h2>{escape(title)}</h2>{content}</section>\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers_from: int = 1) -> str:
    """Cells are escaped here; columns from `numbers_from` on are set as numbers."""

    def row(cells: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=n' if i >= numbers_from else ''}>{escape(cell)}</{tag}>"
            for i, cell in enumerate(cells)
        )

    lines = "".join(f"<tr>{row(cells, 'td')}</tr>" for cells in rows)
    return f"<table><thead><tr>{row(head, 'th')}</tr></thead><tbody>{lines}</tbody></table>"
