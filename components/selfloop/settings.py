"""The settings of a recipe: what matters at the top, the parameters of each stage below."""

from __future__ import annotations

import inspect
import json
import re
import typing
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, PrivateAttr, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from selfloop.stages import INHERITED, Params
from selfloop.strategies import Added, Strategy, Values, change_defaults

START = "start"
"""A loop that continues from nowhere."""
RUN = "run:"
"""Before the id of a run of KFP: a loop that continues from where that run left it."""
NAME = r"[\w.\- ]+"
"""What the name of a loop is made of."""


def compile_time(default: Any, **about: Any) -> Any:
    """A setting that shapes the graph: fixed when a pipeline is compiled, unlike those of the run's form."""
    return Field(default, json_schema_extra={"compile_time": True}, **about)


class Settings(Values):
    """The settings of a recipe.

    A subclass changes defaults without saying a field again: ``class Sec(LoopSettings, rounds=8)``. Stages inherit
    ``seed``, ``round``, ``environment`` and ``engine`` from here, and what they must know of the gate, where their
    parameters say so and were not set themselves. ``shown`` are the stages' parameters that stand in the form of a
    compiled pipeline, with what they are called there, where nothing but the name explains them; what a recipe has not
    is left out.
    """

    shown: ClassVar[dict[str, str]] = {
        "propose.per_level": "propose_tasks_per_level",
        "draw.per_level": "draw_tasks_per_level",
        "generate.temperature": "generate_temperature",
        "generate.max_tokens": "generate_max_tokens",
        "finetune.method": "finetune_method",
        "finetune.steps": "finetune_steps",
        "finetune.lr": "finetune_learning_rate",
        "finetune.batch_size": "finetune_batch_size",
        "reinforce.steps": "reinforce_steps",
        "reinforce.lr": "reinforce_learning_rate",
        "reinforce.batch_size": "reinforce_batch_size",
        "evaluate.samples": "evaluate_samples_per_item",
        "gate.confidence": "gate_confidence",
        "gate.margin": "gate_margin",
    }

    reads: ClassVar[frozenset[str]] = frozenset({"policy"})
    """Those that may name a file or a folder, as stages' parameters do."""

    seed: int = Field(0, ge=0, description="Seed of everything random in the run.")
    rounds: int = compile_time(10, ge=1, le=1000, description="Rounds at most.")
    environment: str = Field("addition", description="The taskset with its protocol and verifier.")
    policy: str = Field(
        "scratch",
        description="The policy that it starts with: 'scratch', a directory, a model id of the Hub, gguf:FILE, "
        "s3://..., models:/NAME@ALIAS.",
    )
    engine: str = Field(
        "auto", description="What decodes, in every stage that asks a policy: auto, transformers or vllm."
    )
    form: str = compile_time("", description="Which of the recipe's forms: a paper's settings by name.")
    model: str = Field(
        "", description="Name of the loop in MLflow's registry; where it is empty, of recipe and environment."
    )
    origin: str = compile_time(
        START, description="Where the loop continues from: its own 'start', or a version as NAME/VERSION."
    )
    first: int = compile_time(1, ge=1, description="Number of the first round; a loop that continues counts on.")

    _recipe: str = PrivateAttr("selfloop")
    _number: int = PrivateAttr(0)
    _run_settings: Any = PrivateAttr(None)

    def __init_subclass__(cls, **defaults: Any) -> None:
        super().__init_subclass__()

    @classmethod
    def __pydantic_init_subclass__(cls, **defaults: Any) -> None:
        """Take other defaults for fields that a parent has. Raises ``UserError`` for one that none has."""
        change_defaults(cls, defaults, "setting")

    @field_validator("model")
    @classmethod
    def _names_a_loop(cls, model: str) -> str:
        if model and (not re.fullmatch(NAME, model) or model.endswith(".moves")):
            raise PydanticCustomError("name", "Use letters, digits, '-', '_' and '.', and no '.moves' at the end")
        return model

    @field_validator("origin")
    @classmethod
    def _is_pinned(cls, origin: str) -> str:
        if origin != START and not re.fullmatch(rf"{NAME}/\d+(\+\d+)?", origin):
            raise PydanticCustomError(
                "origin",
                "Give 'start' or a version as NAME/VERSION; an alias is for the option --from of 'selfloop run'",
            )
        return origin

    @property
    def loop(self) -> str:
        """The name of the loop in the registry: the one given, else that of the recipe on its environment."""
        return self.model or f"{self._recipe}-{as_name(self.environment)}"

    @property
    def number(self) -> int:
        """The round that these settings are for; 0 is the start."""
        return self._number

    @property
    def last(self) -> int:
        """The number of the last round that is asked for."""
        return self.first + self.rounds - 1

    @property
    def run_settings(self) -> typing.Self:
        """The settings of the run that these were made of, for a round."""
        return self if self._run_settings is None else self._run_settings

    @classmethod
    def stages(cls) -> dict[str, type[Params]]:
        """The parameter classes of the stages, by name."""
        return {
            name: info.annotation
            for name, info in cls.model_fields.items()
            if inspect.isclass(info.annotation) and issubclass(info.annotation, Params)
        }

    @classmethod
    def fixed(cls) -> list[str]:
        """The settings that shape the graph."""
        about = {name: info.json_schema_extra for name, info in cls.model_fields.items()}
        return [name for name, extra in about.items() if isinstance(extra, dict) and extra.get("compile_time")]

    @classmethod
    def inputs(cls) -> dict[str, FieldInfo]:
        """The form of a compiled pipeline: the settings that do not shape the graph, then the parameters that are
        shown, each under a name as ``finetune.lr``.
        """
        top = {k: v for k, v in cls.model_fields.items() if k not in cls.stages() and k not in cls.fixed()}
        named = (dotted.partition(".") for dotted in cls.shown)
        found = {(stage, name): cls.stages()[stage].model_fields for stage, _, name in named if stage in cls.stages()}
        return top | {f"{stage}.{name}": fields[name] for (stage, name), fields in found.items() if name in fields}

    @classmethod
    def in_form(cls, name: str) -> str:
        """What the form calls one of its inputs."""
        return cls.shown.get(name, name)

    @classmethod
    def annotation(cls, key: str) -> Any:
        """The type of a setting, or of a stage's parameter as ``finetune.lr``; none of what there is not."""
        stage, _, name = key.rpartition(".")
        fields = cls.stages()[stage].model_fields if stage in cls.stages() else {} if stage else cls.model_fields
        return fields[name].annotation if name in fields else None

    @property
    def handed_on(self) -> dict[str, Any]:
        """What stages inherit, beside the round."""
        return {name: getattr(self, name) for name in INHERITED if name in type(self).model_fields}

    def for_round(self, round: int) -> typing.Self:
        """These settings for one round, with what the stages inherit as their parameters."""
        shared = self.handed_on | {"round": round}
        of_round = self.model_copy(update={name: getattr(self, name).inherit(shared) for name in self.stages()})
        of_round._number, of_round._run_settings = round, self
        return of_round

    def check_items(self) -> None:
        """Refuse a gate that the items of the first round cannot meet."""

    def unseen(self) -> list[str]:
        """What guards cannot see with the items of the first round, a sentence each."""
        return []

    def overrides(self) -> dict[str, Any]:
        """The settings as plain values, without the stage parameters that nobody set."""
        whole = self.model_dump(mode="json", exclude=set(self.stages()))
        set_ = {name: getattr(self, name).model_dump(mode="json", exclude_unset=True) for name in self.stages()}
        return {name: set_.get(name, whole.get(name)) for name in type(self).model_fields}


def in_toml(value: Any) -> str:
    """A value as TOML spells it: as JSON does, but for a table."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {in_toml(each)}" for key, each in value.items()) + "}"
    return json.dumps(value)


def whole(settings: Settings) -> dict[str, Any]:
    """All settings as plain values, defaults among them, as those of the first round are."""
    of_round = settings.for_round(settings.first)
    stages = {name: getattr(of_round, name).model_dump(mode="json") for name in settings.stages()}
    return settings.model_dump(mode="json", exclude=set(stages)) | stages


class RunParams(Params):
    """The parameters of a stage that needs all settings of a loop."""

    settings: str = Field("{}", description="The recipe's settings, as JSON.")
    round: int = Field(0, ge=0, description="The number of the round; 0 is the start.")


def run_of(origin: str) -> str:
    """The id of the KFP run that an origin names; empty where it names none."""
    return origin.removeprefix(RUN) if origin.startswith(RUN) else ""


def as_name(environment: str) -> str:
    """An environment as part of a loop's name: ``dataset:/data/d.jsonl`` is ``dataset-d.jsonl``."""
    family, _, member = environment.partition(":")
    parts = [family, Path(member).name] if "/" in member else [family, member]
    return re.sub(r"[^\w.\-]+", "-", "-".join(part for part in parts if part)).strip("-")


def overlaid(below: dict[str, Any], above: typing.Mapping[str, Any]) -> dict[str, Any]:
    """Nested values with others laid over them: tables are joined key by key, parameters of a strategy that is there,
    and a list of strategies where what is laid over it says so, are changed, anything else is replaced.
    """
    both = dict(below)
    for name, value in above.items():
        there = both.get(name)
        if isinstance(value, typing.Mapping) and isinstance(there, Strategy):
            both[name] = there.changed(value)
        elif isinstance(value, Added) and isinstance(there, list):
            both[name] = value.to(there)
        elif isinstance(value, typing.Mapping) and isinstance(there, typing.Mapping):
            both[name] = overlaid(dict(there), value)
        else:
            both[name] = value
    return both
