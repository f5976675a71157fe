"""A run's history as HTML."""

import json
from typing import Any


def render(history: dict[str, Any], moments: list[dict[str, Any]]) -> str:
    return f"<pre>{json.dumps([history, moments], indent=1)}</pre>"
