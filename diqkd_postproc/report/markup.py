"""Small pieces of HTML; every text that goes in is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True, slots=True)
class Markup:
    """HTML that is finished; a plain `str` is text and gets escaped.

    `element` and `section` take either; only this class is trusted, and only this module and the figures
    make it.
    """

    html: str

    def __str__(self) -> str:
        return self.html


Content = Markup | str


def _html_of(content: Content) -> str:
    """Markup as it is, text escaped."""
    return content.html if isinstance(content, Markup) else escape(content, quote=True)


def element(name: str, *content: Content, css: str = "", **attributes: str) -> Markup:
    """`<name class=css ...>content</name>`; attribute values are escaped.

    `css` becomes the class. A name in `attributes` is written as it is, so it may not come from outside.
    """
    if css:
        attributes = {"class": css, **attributes}
    head = "".join(f' {key}="{escape(value, quote=True)}"' for key, value in attributes.items())
    return Markup(f"<{name}{head}>{''.join(map(_html_of, content))}</{name}>")


def counted(number: int, noun: str) -> str:
    """`1 pause`, `2 pauses`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def joined(parts: Iterable[Content]) -> Markup:
    """One after the other."""
    return Markup("\n".join(map(_html_of, parts)))


def table(rows: Iterable[Sequence[Content]], headings: Sequence[str] = (), css: str = "") -> Markup:
    """A table; the first cell of a row is its heading.

    Wrapped into a scrolling box, for screens narrower than the table. css: class of the table.
    """
    parts: list[Content] = []
    if headings:
        cells = (element("th", heading, scope="col") for heading in headings)
        parts.append(element("thead", element("tr", *cells)))
    body = [
        element("tr", element("th", row[0], scope="row"), *(element("td", cell) for cell in row[1:]))
        for row in rows
    ]
    parts.append(element("tbody", *body))
    return element("div", element("table", *parts, css=css), css="scroll")


def section(title: str, *content: Content, css: str = "") -> Markup:
    """A card with a heading."""
    return element("section", element("h2", title), *content, css=css)


def figure(svg: str, caption: Content) -> Markup:
    """A drawing with its caption; `svg` comes from `drawing.inline_svg`."""
    return element("figure", element("div", Markup(svg), css="drawing"), element("figcaption", caption))
