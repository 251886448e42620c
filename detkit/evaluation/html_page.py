"""Pieces of a self-contained HTML page: tables, bars, curves, embedded pictures.

Text and markup have different types, and only :func:`escaped` leads from one to the other, so a
class named ``<script>`` is shown, not run. The page loads nothing and runs nothing; its content
security policy says so to the browser, too.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NewType

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from detkit.visible import visible_lines

if TYPE_CHECKING:
    from PIL.Image import Image

Html = NewType("Html", str)  # markup; what comes from data is never cast to it

JPEG_QUALITY = 82
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --soft: #5c5c5c; --page: #ffffff;
  --rule: #d8d8d8; --card: #f5f5f5; --bar: #2f6fb3; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --soft: #a8a8a8; --page: #16181b;
  --rule: #3a3d42; --card: #212429; --bar: #6aa5e0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 70rem; color: var(--ink);
  background: var(--page); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { font-size: 1.35rem; margin: 2.5rem 0 .5rem;
  border-bottom: 2px solid var(--rule); } h3 { font-size: 1.1rem; margin: 1.8rem 0 .4rem; }
p { margin: .4rem 0; max-width: 50rem; } .soft { color: var(--soft); font-size: .9rem; }
.wide { overflow-x: auto; margin: .5rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums;
  overflow-wrap: normal; }
th, td { padding: .25rem .6rem; text-align: left; border-bottom: 1px solid var(--rule);
  vertical-align: top; white-space: pre-line; }
thead th { vertical-align: bottom; } th { font-weight: 600; } tbody th { font-weight: 400; }
.n { text-align: right; } td.n { white-space: nowrap; }
.bars { width: 100%; max-width: 46rem; } .bars tbody th { min-width: 10rem; }
.bars td:last-child { width: 35%; min-width: 5rem; }
.bar { display: block; height: 1.1em; min-width: 1px; background: var(--bar);
  border-radius: 2px; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.grid { display: grid; gap: .8rem;
  grid-template-columns: repeat(auto-fill, minmax(min(13rem, 45%), 1fr)); }
.grid.large { grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); }
figure { margin: 0; break-inside: avoid; } figcaption { font-size: .85rem; color: var(--soft); }
img { max-width: 100%; height: auto; display: block; border-radius: 3px; }
img.png { background: white; }
svg { width: 100%; height: auto; display: block; }
details { margin: .6rem 0; } summary { cursor: pointer; }
pre { background: var(--card); padding: .7rem; overflow-x: auto; font-size: .85rem;
  border-radius: 4px; white-space: pre-wrap; }
code { font-family: ui-monospace, monospace; font-size: .9em; }
nav a { margin-right: 1rem; }
@media print { :root { --ink: #000; --soft: #333; --page: #fff; --rule: #bbb; --card: #f5f5f5;
  --bar: #2f6fb3; } html { font-size: 11px; } body { max-width: none; padding: 0;
  font-size: 1rem; } .wide { overflow: visible; } h2, h3, h4 { break-after: avoid; }
  tr { break-inside: avoid; } }
"""


def escaped(value: object) -> Html:
    """Any text as markup that shows it, with what would not be seen (control codes) written out."""
    return Html(html.escape(visible_lines(str(value)), quote=True))


def joined(parts: Iterable[Html]) -> Html:
    """Pieces of markup one behind the other."""
    return Html("\n".join(parts))


def page(title: str, body: Iterable[Html]) -> str:
    """A whole document."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escaped(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"{joined(body)}\n</body>\n</html>\n"
    )


def heading(level: int, text: str, anchor: str = "") -> Html:
    """A heading; ``anchor`` is an id that :func:`links` leads to."""
    mark = f' id="{escaped(anchor)}"' if anchor else ""
    return Html(f"<h{level}{mark}>{escaped(text)}</h{level}>")


def links(targets: Sequence[tuple[str, str]]) -> Html:
    """A line of links within the page, from (text, anchor) pairs."""
    parts = [f'<a href="#{escaped(anchor)}">{escaped(text)}</a>' for text, anchor in targets]
    return Html(f"<nav>{' '.join(parts)}</nav>")


def paragraph(text: str, *, soft: bool = False) -> Html:
    """A paragraph, small and grey where ``soft``."""
    style = ' class="soft"' if soft else ""
    return Html(f"<p{style}>{escaped(text)}</p>")


def details(summary: str, content: Iterable[Html], *, is_open: bool = False) -> Html:
    """Content that opens at a click."""
    return Html(
        f"<details{' open' if is_open else ''}><summary>{escaped(summary)}</summary>\n"
        f"{joined(content)}</details>"
    )


def code_block(text: str) -> Html:
    """Text with its line breaks, in letters of one width."""
    return Html(f"<pre><code>{escaped(text)}</code></pre>")


def table(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Html:
    """A table that scrolls sideways where it is too wide; all but the first column are figures."""
    figure = [column > 0 for column in range(len(headings))]
    return _table(title, headings, rows, figure)


def rich_table(source: Table) -> Html:
    """A table of the console, its title as caption."""
    headings = [_plain(column.header).replace("-\n", "") for column in source.columns]
    rows = zip(*(list(column.cells) for column in source.columns), strict=True)
    cells = [[_plain(cell) for cell in row] for row in rows]
    figure = [column.justify == "right" for column in source.columns]
    return _table(_plain(source.title or ""), headings, cells, figure)


def _plain(cell: Any) -> str:
    return (cell.plain if isinstance(cell, Text) else str(cell)).strip()


def _table(
    title: str, headings: Sequence[str], rows: Iterable[Sequence[str]], figure: Sequence[bool]
) -> Html:
    kinds = [' class="n"' if is_figure else "" for is_figure in figure]
    head = "".join(
        f'<th scope="col"{kind}>{escaped(text)}</th>'
        for text, kind in zip(headings, kinds, strict=True)
    )
    lines = []
    for first, *others in rows:
        cells = "".join(
            f"<td{kind}>{escaped(cell)}</td>" for cell, kind in zip(others, kinds[1:], strict=True)
        )
        lines.append(f'<tr><th scope="row"{kinds[0]}>{escaped(first)}</th>{cells}</tr>')
    return _titled(
        title,
        f"<table><thead><tr>{head}</tr></thead>\n<tbody>{''.join(lines)}</tbody></table>",
    )


def _titled(title: str, content: str) -> Html:
    """A table under its title, which may be broader than the table (a caption may not)."""
    name = escaped(title)
    return Html(
        f'<p class="soft">{name}</p>\n'
        f'<div class="wide" role="region" aria-label="{name}" tabindex="0">{content}</div>'
    )


@dataclass(frozen=True, slots=True)
class Bar:
    """One line of a bar chart."""

    name: str
    note: str  # small, under the name
    figures: tuple[str, ...]
    value: float  # its length; nothing is drawn for what is not above zero


def bar_table(title: str, headings: Sequence[str], bars: Sequence[Bar]) -> Html:
    """A table whose last column holds bars; a reader of tables alone loses nothing.

    Args:
        title: above it.
        headings: of the name and of each figure.
        bars: one a line.
    """
    longest = max([bar.value for bar in bars if bar.value > 0], default=1.0)
    kinds = ["", *[' class="n"'] * (len(headings) - 1)]
    head = "".join(
        f'<th scope="col"{kind}>{escaped(text)}</th>'
        for text, kind in zip(headings, kinds, strict=True)
    )
    lines = []
    for bar in bars:
        note = f'<br><span class="soft">{escaped(bar.note)}</span>' if bar.note else ""
        cells = "".join(f'<td class="n">{escaped(figure)}</td>' for figure in bar.figures)
        width = 100 * bar.value / longest if bar.value > 0 else 0
        drawn = f'<span class="bar" style="width:{width:.1f}%"></span>' if width else ""
        lines.append(
            f'<tr><th scope="row">{escaped(bar.name)}{note}</th>{cells}<td>{drawn}</td></tr>'
        )
    return _titled(
        title,
        f'<table class="bars"><thead><tr>{head}<td></td></tr></thead>\n'
        f"<tbody>{''.join(lines)}</tbody></table>",
    )


def grid(cells: Iterable[Html], *, large: bool = False) -> Html:
    """Figures side by side, as many as fit."""
    return Html(f'<div class="grid{" large" if large else ""}">{joined(cells)}</div>')


def picture(image: Image, alt: str, caption: str) -> Html:
    """A photograph, embedded as JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "jpeg", quality=JPEG_QUALITY, optimize=True)
    return _figure(_image("jpeg", buffer.getvalue(), image.size, alt), caption)


def chart(png: bytes, size: tuple[int, int], alt: str, caption: str) -> Html:
    """A drawing, embedded as the PNG it is; ``size`` is its width and height."""
    return _figure(_image("png", png, size, alt), caption)


def _image(kind: str, content: bytes, size: tuple[int, int], alt: str) -> Html:
    address = f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
    return Html(
        f'<img class="{kind}" src="{address}" width="{size[0]}" height="{size[1]}" '
        f'alt="{escaped(alt)}" decoding="async">'
    )


def _figure(content: Html, caption: str) -> Html:
    said = f"<figcaption>{escaped(caption)}</figcaption>" if caption else ""
    return Html(f"<figure>{content}{said}</figure>")


def curve(x: NDArray[np.float64], y: NDArray[np.float64], alt: str, caption: str) -> Html:
    """A curve in the unit square, drawn as SVG in the page's own colours."""
    points = " ".join(
        f"{100 * right:.1f},{100 - 100 * up:.1f}" for right, up in zip(x, y, strict=True)
    )
    rules = "".join(
        f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="var(--rule)" stroke-width=".5"/>'
        for step in (0, 25, 50, 75, 100)
        for x1, y1, x2, y2 in ((0, step, 100, step), (step, 0, step, 100))
    )
    words = "".join(
        f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="6" fill="var(--soft)">{text}'
        "</text>"
        for x, y, anchor, text in (
            *((0, 108, "start", "0"), (50, 108, "middle", "recall"), (100, 108, "end", "1")),
            *((-3, 103, "end", "0"), (-3, 4, "end", "1")),
        )
    )
    drawn = (
        f'<svg viewBox="-8 -3 112 115" role="img" aria-label="{escaped(alt)}">{rules}{words}'
        f'<polyline points="{points}" fill="none" stroke="var(--bar)" stroke-width="1.6" '
        'stroke-linejoin="round"/></svg>'
    )
    return _figure(Html(drawn), caption)
