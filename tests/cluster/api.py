"""Checks requests and answers against an OpenAPI document (3.1)."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jsonschema import Draft202012Validator


class Operation(NamedTuple):
    id: str
    declared: Mapping[str, Any]
    places: dict[str, str]
    """The values of the parameters in the path."""


class Api:
    def __init__(self, document: Path) -> None:
        self._document = json.loads(document.read_text())
        self._paths = {self._pattern(path): methods for path, methods in self._document["paths"].items()}

    def operation(self, method: str, path: str) -> Operation | None:
        for pattern, methods in self._paths.items():
            found = pattern.fullmatch(path)
            if found and method.lower() in methods:
                declared = methods[method.lower()]
                return Operation(declared["operationId"], declared, found.groupdict())
        return None

    def query_mistakes(self, operation: Operation, query: Mapping[str, list[str]]) -> list[str]:
        declared = {one["name"]: one for one in operation.declared["parameters"] if one["in"] == "query"}
        said = [f"unknown query parameter {name}" for name in query if name not in declared]
        for name, one in declared.items():
            values = query.get(name, [])
            if one.get("required") and not values:
                said.append(f"query parameter {name} is missing")
            for text in values:
                value: Any = int(text) if one["schema"].get("type") == "integer" and text.isdecimal() else text
                said += self._mistakes(one["schema"], value)
        return said

    def body_mistakes(self, operation: Operation, kind: str, body: Any) -> list[str]:
        declared = operation.declared.get("requestBody")
        if declared is None:
            return [] if body is None else ["a body where none is taken"]
        if kind not in declared["content"]:
            return [f"content type {kind}"]
        return self._mistakes(declared["content"][kind]["schema"], body)

    def answer_mistakes(self, operation: Operation, status: int, answer: Any) -> list[str]:
        responses = operation.declared["responses"]
        content = responses.get(str(status), responses["default"])["content"]
        return self._mistakes(content["application/json"]["schema"], answer)

    def _mistakes(self, schema: Mapping[str, Any], value: Any) -> list[str]:
        whole = {**schema, "components": self._document["components"]}
        found = Draft202012Validator(whole, format_checker=Draft202012Validator.FORMAT_CHECKER).iter_errors(value)
        return [f"{error.json_path}: {error.message[:200]}" for error in found]

    @staticmethod
    def _pattern(path: str) -> re.Pattern[str]:
        parts = re.split(r"\{(\w+)\}", path)
        return re.compile(
            "".join(f"(?P<{part}>[^/:]+)" if place % 2 else re.escape(part) for place, part in enumerate(parts))
        )
