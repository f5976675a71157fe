"""A stage as a container's command: ``python -m selfloop generate_rollouts --policy DIR --tasks DIR --rollouts DIR``.

Artifacts are directories, parameters have the names that the KFP component has; lists and dicts are JSON.
"""

import json
from typing import Any

import click

from selfloop.errors import ending_plainly
from selfloop.modes.pods import enter
from selfloop.stages import Stage, find_stage, kfp_type, stages


def command(stage: Stage) -> click.Command:
    """The command of one stage, read off its definition."""
    options: list[click.Parameter] = []
    several = {stage.flat.inputs[name] for name in stage.many}
    optional = {stage.flat.inputs[name] for name in stage.optional}
    kinds = {flat: stage.inputs[name] for name, flat in stage.flat.inputs.items()}
    kinds |= {flat: stage.outputs[name] for name, flat in stage.flat.outputs.items()}
    for name, kind in kinds.items():
        side = "input" if name in stage.flat.inputs.values() else "output"
        about: dict[str, Any] = {"metavar": "PATH", "help": f"Where the {side} lies ({kind.__name__})."}
        flag = f"--{name.replace('_', '-')}"
        options.append(click.Option([flag, name], required=name not in optional, multiple=name in several, **about))
    for name, spelled, default, description in stage.rows():
        help_text = f"{description} [{spelled}; {default}]"
        options.append(click.Option([f"--{name.replace('_', '-')}", name], help=help_text))

    def run(**given: Any) -> None:
        given_at = {name: given.pop(name) for name in kinds}
        places = {
            name: [kinds[name](uri=uri) for uri in at] if name in several else kinds[name](uri=at)
            for name, at in given_at.items()
            if at is not None
        }
        values = {
            name: text if kfp_type(stage.params.model_fields[name].annotation, name) == "str" else _value(text)
            for name, text in given.items()
            if text is not None
        }
        returned = enter(stage.target, values | places)
        if stage.returns:
            click.echo(json.dumps(returned))

    return click.Command(stage.name, params=options, callback=run, help=stage.summary)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


class Stages(click.Group):
    """Each stage is a command, also the user's own as ``module:function``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The stages that come with selfloop."""
        return list(stages())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        """The command of the stage of this name."""
        return command(find_stage(cmd_name))


if __name__ == "__main__":
    with ending_plainly():
        Stages(name="selfloop", help="Run one stage.")(prog_name="python -m selfloop")
