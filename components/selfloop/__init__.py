"""selfloop: loops in which a language model improves itself, run as Kubeflow pipelines.

The public names. ``import selfloop`` loads none of what is behind them; each is loaded when it is first used.

    import selfloop

    run = selfloop.run("length-generalization", rounds=3, output="runs/first")
    run.champion, run.decision(2)["reason"], run.rollouts(2).to_pandas()

>>> import selfloop
>>> selfloop.find_recipe("length-generalization").roles
('champion',)
>>> task = selfloop.find_environment("addition").tasks(level=2, count=1, seed=0)[0]
>>> task.level
2
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from selfloop.environments import Environment, ExactAnswer, Grade, Restarts, find_environment
    from selfloop.errors import HaltedError, UserError
    from selfloop.filter import Selector
    from selfloop.guards import Evidence, Guard, Reading
    from selfloop.pipelines import Pipeline, Submitted, compile_pipeline, schedule, submit
    from selfloop.recipe import Form, Recipe, find_recipe, recipes
    from selfloop.records import Example, Rollout, Task, Verdict, read_table
    from selfloop.runs import Run, run
    from selfloop.stages import Params, stage
    from selfloop.verify import Verifier

_DEFINED_IN = {
    "environments": ("Environment", "ExactAnswer", "Grade", "Restarts", "find_environment"),
    "errors": ("HaltedError", "UserError"),
    "filter": ("Selector",),
    "guards": ("Evidence", "Guard", "Reading"),
    "pipelines": ("Pipeline", "Submitted", "compile_pipeline", "schedule", "submit"),
    "recipe": ("Form", "Recipe", "find_recipe", "recipes"),
    "records": ("Example", "Rollout", "Task", "Verdict", "read_table"),
    "runs": ("Run", "run"),
    "stages": ("Params", "stage"),
    "verify": ("Verifier",),
}
_MODULE_OF = {name: f"selfloop.{module}" for module, names in _DEFINED_IN.items() for name in names}

__all__ = [
    "Environment",
    "Evidence",
    "ExactAnswer",
    "Example",
    "Form",
    "Grade",
    "Guard",
    "HaltedError",
    "Params",
    "Pipeline",
    "Reading",
    "Recipe",
    "Restarts",
    "Rollout",
    "Run",
    "Selector",
    "Submitted",
    "Task",
    "UserError",
    "Verdict",
    "Verifier",
    "__version__",
    "compile_pipeline",
    "find_environment",
    "find_recipe",
    "read_table",
    "recipes",
    "run",
    "schedule",
    "stage",
    "submit",
]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'selfloop' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    """The public names."""
    return __all__
