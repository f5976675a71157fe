"""The sections of the report, one file each, most of them with a template beside it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from selfloop import html
from selfloop.report import formats
from selfloop.report.formats import Round
from selfloop.strategies import Strategy

if TYPE_CHECKING:
    from jinja2 import Template

FORMATS: tuple[Callable[..., Any], ...] = (
    formats.decile, formats.duration, formats.error, formats.interval, formats.percent, formats.reading, formats.short,
    formats.size,
)  # fmt: skip
"""The formats that every template knows, as filters."""


SECTIONS = [
    "accuracy", "arms", "frontier", "rounds", "roles", "gate", "anchor", "guards", "kept", "audit", "samples", "time",
    "cost", "parameters",
]  # fmt: skip
"""What a report shows unless it is said otherwise: every section that comes with selfloop."""


class RunHistory(NamedTuple):
    """What a report tells: the rounds, the moments of their stages, and the parameters of the stages by name."""

    rounds: Sequence[Round]
    moments: Sequence[Mapping[str, Any]]
    parameters: Mapping[str, Any]


class Section(Strategy):
    """A part of the report.

    It has a ``title`` in the list of contents, a ``heading`` where that is another, and a ``look``, the class that the
    style sheet knows it by.
    """

    kind = "section"
    package = __name__
    title: ClassVar[str] = ""
    heading: ClassVar[str] = ""
    look: ClassVar[str] = ""

    @classmethod
    def names(cls) -> tuple[str, str]:
        """Its title and its heading; of a user's own that has none, they are made of its name."""
        title = cls.title or cls.label().replace("_", " ").capitalize()
        return title, cls.heading or title

    @abstractmethod
    def __call__(self, run: RunHistory) -> str:
        """What stands below the heading; empty where there is nothing to show. Text is escaped, ``Markup`` is not."""


class Templated(Section):
    """A section with a template beside its module."""

    @abstractmethod
    def values(self, run: RunHistory) -> Mapping[str, Any] | None:
        """What its template shows; none where there is nothing to show."""

    @classmethod
    def filters(cls) -> tuple[Callable[..., Any], ...]:
        """Formats that its template alone knows."""
        return ()

    def __call__(self, run: RunHistory) -> str:
        """The template, filled."""
        from markupsafe import Markup

        values = self.values(run)
        return "" if values is None else Markup(_template(type(self)).render(values).strip("\n"))  # noqa: S704


@cache
def _template(section: type[Templated]) -> Template:
    known: dict[str, Callable[..., Any]] = {each.__name__: each for each in (*FORMATS, *section.filters())}
    return html.template(f"report/sections/{section.name}.html.j2", known)
