"""What a gate can see, told before a loop is run."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from selfloop.cli.app import app, console
from selfloop.errors import UserError
from selfloop.promote import GateParams
from selfloop.stages import validated

gate = typer.Typer(help="What a loop's gate can see.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(gate, name="gate")
LOST = (0, 1, 3, 10, 30)
"""Second looks that confirmed nothing before, for which the plan is told."""
PLAIN = GateParams()


@gate.callback()
def _what_a_gate_can_see() -> None:
    """What a loop's gate can see."""


@gate.command()
def plan(
    accuracy: Annotated[float, typer.Option(help="The champion's accuracy on the target suite.")],
    gain: Annotated[float, typer.Option(help="How much more a candidate solves, such as 0.02.")],
    items: Annotated[int, typer.Option(min=1, help="Items of a first look.")] = 448,
    discordance: Annotated[
        float | None,
        typer.Option(help="Share of items that one of the two alone solves; default: as if they were independent."),
    ] = None,
    chance: Annotated[float, typer.Option(min=0.01, max=0.99, help="The power that items are told for.")] = 0.8,
    screen: Annotated[float, typer.Option(help="As gate.screen.")] = PLAIN.screen,
    confirm: Annotated[int, typer.Option(help="As gate.confirm.")] = PLAIN.confirm,
    loop_alpha: Annotated[float, typer.Option(help="As gate.loop_alpha.")] = PLAIN.loop_alpha,
    spend: Annotated[str, typer.Option(help="As gate.spend.")] = str(PLAIN.spend),
) -> None:
    """Tell how often a gate promotes a better candidate, and with how many items it would do so four times of five."""
    from selfloop.promote import planning

    set_ = {"screen": screen, "confirm": confirm, "loop_alpha": loop_alpha, "spend": spend}
    params = validated(GateParams, set_, "gate")
    differ = planning.independent(accuracy, gain) if discordance is None else discordance
    planning.check(accuracy, gain, differ)
    console.print(
        f"From {accuracy:g} to {accuracy + gain:g} at a discordance of {differ:.3g}: {items:,} items in the first "
        f"look, {confirm * items:,} in the second. One test at p ≤ 0.05 of the first alone would promote "
        f"{planning.power(items, gain, differ, 0.05):.0%}.",
        soft_wrap=True,
    )
    table = Table("lost looks before", "level", "promoted", f"items for {chance:.0%}", box=None)
    for lost in LOST:
        try:
            needed = f"{planning.items_for(params, chance, gain, differ, lost):,}"
        except UserError:
            needed = "none"
        level = planning.level_after(params, lost)
        table.add_row(f"{lost}", f"{level:.2g}", f"{planning.promotes(params, items, gain, differ, lost):.1%}", needed)
    console.print(table)
    console.print("Guard suites and guards come on top. What is promised: docs/statistics.md.", soft_wrap=True)
