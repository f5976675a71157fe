"""The first screen of the report: did it get better, by how much, is it in force, what next; and how it came about."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from selfloop.decision import deciding_look
from selfloop.report.formats import Round, interval
from selfloop.settings import START, in_toml


class Opening(NamedTuple):
    """Sentences, the commands that come next with what each does, how to load the champion, and what the run was."""

    verdict: str
    better: str
    force: str
    next: Sequence[tuple[str, str]]
    load: Sequence[tuple[str, str]]
    about: Sequence[tuple[str, str]]


def about(recipe: Any, settings: Any) -> dict[str, Any]:
    """What a run is: all that a person needs to repeat it. No digest covers it: it is noted beside the history."""
    return {
        "recipe": recipe.name,
        "form": settings.form,
        "paper": recipe.forms[settings.form].paper if settings.form else recipe.paper,
        "loop": settings.loop,
        "environment": settings.environment,
        "policy": settings.policy,
        "seed": settings.seed,
        "origin": settings.origin,
        "last": settings.last,
        "command": command(recipe, settings),
    }


def command(recipe: Any, settings: Any) -> str:
    """The command that runs a loop with these settings, as far as they differ from the recipe's own."""
    provided = recipe.module.startswith("selfloop_recipes.")
    own = recipe.target if "." in recipe.module else f"{recipe.module}.py"
    continues = settings.origin != START
    words = ["selfloop", "run", recipe.name if provided else own]
    words += ["--form", settings.form] if settings.form else []
    words += ["--from", settings.origin] if continues else []
    skipped = {"form", "origin", "first", *(["model"] if continues else [])}
    for name, value in changed(recipe, settings).items():
        if name not in skipped:
            words += [f"--{name}", str(value)] if name in OPTIONS else ["--set", f"{name}={_spelt(value)}"]
    return shlex.join(words)


def _spelt(value: Any) -> str:
    """A value as ``--set`` reads it: a text as it is, unless it looks like TOML's."""
    is_plain = isinstance(value, str) and value[:1] not in ("", "'", '"', "[", "{")
    return value if is_plain else in_toml(value)


def changed(recipe: Any, settings: Any) -> dict[str, Any]:
    """The settings that differ from the recipe's own, or from what its stages inherit, by name."""
    stages = set(settings.stages())
    plain, given = recipe.resolve({"form": settings.form}), settings.run_settings
    before, now = (each.model_dump(mode="json", exclude=stages) for each in (plain, given))
    found = {name: value for name, value in now.items() if before[name] != value}
    inherited, mine = (
        recipe.resolve({"form": settings.form}, found).for_round(given.first),
        given.for_round(given.first),
    )
    for stage in settings.stages():
        before, now = (getattr(each, stage).model_dump(mode="json") for each in (inherited, mine))
        found |= {f"{stage}.{name}": value for name, value in now.items() if before[name] != value}
    return found


OPTIONS = ("seed", "rounds", "environment", "policy", "engine", "budget")
"""The settings that have an option of their own."""


def opening(history: Mapping[str, Any], moments: Sequence[Mapping[str, Any]], champion: str = "") -> Opening | None:
    """What the first screen says of a run; none of one that has no round yet, or that was begun before it was kept.

    ``champion`` is the folder of the policy in force, where this machine has it.
    """
    rounds, noted = history["rounds"], moments[-1] if moments else {}
    known = noted.get("about")
    if not rounds or not known:
        return None
    last, over = rounds[-1], noted.get("ends", "")
    return Opening(
        last["decision"]["verdict"],
        _better(rounds),
        _in_force(rounds),
        _next(known, last["decision"], bool(over)),
        _load(known["loop"], champion),
        _facts(known, rounds),
    )


def _better(rounds: Sequence[Round]) -> str:
    promoted = [round for round in rounds if round["decision"]["verdict"] == "promoted"]
    number = f"{len(rounds)} candidate{'s' * (len(rounds) != 1)}"
    if not promoted:
        return f"No: none of {number} was shown to be better than the policy that the loop began with."
    decision = promoted[-1]["decision"]
    look = deciding_look(decision)
    if look is None or not decision.get("budget"):
        return f"{len(promoted)} of {number} were promoted, by a rule that does not test whether they are better."
    last = f"round {promoted[-1]['round']}: {interval(look)} on {look['items']:,} items"
    if len(promoted) == 1:
        return f"Yes: one of {number} was shown to be better than the champion before it ({last})."
    shown = f"{len(promoted)} of {number} were shown to be better than the champion before them"
    return f"Yes: {shown} (the last in {last})."


def _in_force(rounds: Sequence[Round]) -> str:
    last = rounds[-1]
    verdict, reason = last["decision"]["verdict"], last["decision"]["reason"]
    promoted = [round["round"] for round in rounds if round["decision"]["verdict"] == "promoted"]
    force = f"the candidate of round {promoted[-1]}" if promoted else "the policy that the loop began with"
    if verdict == "halted":
        return f"In force is {force}: in round {last['round']} {reason}."
    if verdict == "pending":
        return f"In force is {force}; that of round {last['round']} {reason}."
    return f"In force is {force}, unless a person moved it since."


def _next(known: Mapping[str, Any], decision: Mapping[str, Any], over: bool) -> list[tuple[str, str]]:
    """Commands, with what each is for."""
    loop, recipe = known["loop"], shlex.split(known["command"])[2]
    onwards = f"selfloop run {recipe} --from {loop}@champion"
    if known["environment"] not in loop:
        onwards += f" --environment {shlex.quote(known['environment'])}"
    more = f"{onwards} --budget ..." if over else onwards
    found = {
        "halted": [("mend what the guard saw, then continue from the champion", onwards)],
        "pending": [
            ("let the candidate come in force", f"selfloop approve {loop} --reason ..."),
            ("or go on without it", onwards),
        ],
    }.get(decision["verdict"], [("continue with a larger budget" if over else "more rounds, from the champion", more)])
    return [*found, ("see every version, and what is in force", f"selfloop lineage {loop}")]


def _load(loop: str, champion: str) -> list[tuple[str, str]]:
    """Ways to the champion: the name of each, and the code."""
    found = [("From the registry", f'mlflow.transformers.load_model("models:/{loop}@champion")')]
    if champion:
        found.append(("From its folder", f'AutoModelForCausalLM.from_pretrained("{champion}")'))
    return found


def _facts(known: Mapping[str, Any], rounds: Sequence[Round]) -> list[tuple[str, str]]:
    recipe = " ".join(filter(None, [known["recipe"], known["form"] and f"--form {known['form']}", known["paper"]]))
    begins = "" if known["origin"] == "start" else f", continues {known['origin']}"
    done = f"{rounds[0]['round']} to {rounds[-1]['round']} of {known['last']}{begins}"
    rows = [
        ("Recipe", recipe),
        ("Environment", known["environment"]),
        ("Policy", "trained from scratch" if known["policy"] == "scratch" else known["policy"]),
        ("Seed", str(known["seed"])),
        ("Rounds", done),
        ("Loop", known["loop"]),
        ("Machine", known["machine"]),
    ]
    return [(name, value) for name, value in rows if value] + [("Command", known["command"])]
