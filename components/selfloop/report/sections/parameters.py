"""``parameters``: those of each stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from selfloop.report.sections import RunHistory, Templated


class Parameters(Templated):
    """The parameters of each stage, as the last round that ended used them."""

    name = "parameters"
    title = "Parameters"
    look = "parameters"

    def values(self, run: RunHistory) -> Mapping[str, Any]:
        """The parameters by stage."""
        return {"parameters": run.parameters}
