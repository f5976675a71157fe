"""A task of a pipeline in its container: KFP's executor around one call of a stage.

The command says what is called and for which stage. What the task takes and gives stands in what KFP says to it, so the
command holds no more: Argo notes it six times for each task.
"""

from __future__ import annotations

import inspect
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any

from kfp import dsl
from kfp.dsl.executor import Executor

INPUT: Any = dsl.Input
OUTPUT: Any = dsl.Output
KINDS = {f"system.{kind}": getattr(dsl, kind) for kind in ("Dataset", "Model", "HTML", "Markdown", "Metrics")}


def main() -> None:
    """Run the task that the command line says: KFP's own program, which this one stands for, what KFP says to the task,
    the module whose ``main`` is called, the stage.
    """
    logging.basicConfig(stream=sys.stdout, format="%(asctime)s %(levelname)s: %(message)s", level=logging.INFO)
    _, told, module, target = sys.argv[1:]
    executor_input = json.loads(told)
    Executor(executor_input, _typed(executor_input, import_module(module).main, target)).execute()


def _typed(told: Mapping[str, Any], call: Callable[[str, Mapping[str, Any]], Any], target: str) -> Any:
    """A function with the signature that KFP's executor reads what it hands over by."""

    def function(**given: Any) -> Any:
        return call(target, given)

    returned = bool if told.get("outputs", {}).get("parameters") else inspect.Signature.empty
    parameters = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=a) for name, a in _annotated(told)]
    function.__annotations__ = {each.name: each.annotation for each in parameters}
    vars(function)["__signature__"] = inspect.Signature(parameters, return_annotation=returned)
    return function


def _annotated(told: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    inputs, outputs = told.get("inputs", {}), told.get("outputs", {})
    for name, several in inputs.get("artifacts", {}).items():
        yield name, INPUT[list[dsl.Artifact] if len(several["artifacts"]) > 1 else dsl.Artifact]
    for name, (made,) in ((name, each["artifacts"]) for name, each in outputs.get("artifacts", {}).items()):
        if name.isidentifier():  # KFP's own log is none
            yield name, OUTPUT[KINDS.get(made["type"].get("schemaTitle", ""), dsl.Artifact)]
    for name, value in inputs.get("parameterValues", {}).items():
        if value is not None:
            yield name, type(value)


if __name__ == "__main__":
    main()
