"""What the HTML documents share: a frame (``document.html.j2``), pieces of markup (``pieces.html.j2``) and formats.

A document is one self-contained file. The frame's own policy forbids scripts and whatever is not in the file, and
templates escape everything, because reasons are typed by people and completions are written by models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from jinja2 import Template


class Fact(NamedTuple):
    """One number of the headline."""

    name: str
    value: str
    note: str


def template(name: str, filters: Mapping[str, Callable[..., Any]] = {}) -> Template:
    """The template at ``name`` below this package's parent, with ``filters`` beside the formats of this module."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("selfloop", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"moment": moment, "number": number, "said": said} | dict(filters)
    return environment.get_template(name)


def number(value: int) -> str:
    """A count with its thousands apart."""
    return f"{value:,}"


def figure(value: object) -> str:
    """A measure to four digits where it is a fraction."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def moment(seconds: float) -> datetime:
    """Seconds since 1970 as a time in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def said(time: datetime) -> str:
    """A time to the minute as a person says it."""
    return f"{time.day} {time:%B %Y, %H:%M}"
