"""Mode 3: a whole round as one stage, whose pod runs the round in process.

For loops that are on-policy at a fine grain, where a pod a stage would cost minutes of start-up a round. What the round
made on its way travels as one more output, ``artifacts``; its pages are outputs as they are.

The start of a loop is one stage in every pipeline, because what it does is known only when it runs: a person or a
schedule says whether a run begins anew or continues from a champion.
"""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import Any, Literal

from kfp.dsl import Artifact

from selfloop.artifacts import hand_on
from selfloop.loop import Loop, loop_of
from selfloop.modes.inprocess import InProcess
from selfloop.modes.noting import calls_of
from selfloop.modes.pods import lighten
from selfloop.promote import changing
from selfloop.recipe import Recipe
from selfloop.resources import Resources
from selfloop.settings import RunParams
from selfloop.stages import Stage, executed_by, is_page, outputs_named


class LoopInPods(Loop):
    """A loop with its start, and where ``fused`` each of its rounds, as one stage."""

    def __init__(self, recipe: Recipe[Any], fused: bool) -> None:
        super().__init__(recipe)
        self._fused = fused

    def begin(self, s: Any) -> Any:
        """The start in one component. The first round always comes."""
        made = fused_stage(self.recipe, "start")(self.recipe.run_params(s))
        return self.state(*(getattr(made, name) for name in self.kinds), proceed=True)

    def take_round(self, s: Any, last: Any) -> Any:
        """A round, in one component where it is fused."""
        if not self._fused:
            return loop_of(self.recipe).take_round(s, last)
        given = {name: getattr(last, name) for name in self.kinds}
        made = fused_stage(self.recipe, "round")(self.recipe.run_params(s), **given)
        return last._replace(**{name: getattr(made, name) for name in (*changing(self.recipe, self.kinds), "proceed")})


@functools.cache
def fused_stage(recipe: Recipe[Any], part: Literal["start", "round"]) -> Stage:
    """The start or a round of a recipe as a stage."""
    pages, loop = pages_of(recipe, part), loop_of(recipe)
    made = loop.kinds if part == "start" else changing(recipe, loop.kinds)

    def function(out: Any, params: RunParams, **given: Any) -> bool | None:
        settings = recipe.settings_of(params)
        driver = InProcess(Path(out.artifacts.path), round=params.round)
        with executed_by(driver):
            if part == "start":
                left = loop.begin(settings)
            else:
                left = loop.take_round(settings, loop.state(**given, proceed=True))
        for name in made:
            hand_on(getattr(left, name), getattr(out, name))
        for name in pages.keys() & driver.pages.keys():
            page = getattr(out, name)
            shutil.copyfile(driver.pages[name].path, page.path)
            page.metadata.update(driver.pages[name].metadata)
        lighten(Path(out.artifacts.path))
        return None if part == "start" else bool(left.proceed)

    function.__doc__ = f"Run the {part} of {recipe.name} in one component.\n\n{recipe.summary}"
    proceeds = {"proceed": bool} if part == "round" else {}
    return Stage(
        name=f"{part}_{recipe.identifier}",
        target=f"{recipe.target}.{part}",
        function=function,
        params=RunParams,
        inputs={} if part == "start" else loop.kinds,
        out=outputs_named(f"{part.title()}Outputs", {**made, "artifacts": Artifact, **pages, **proceeds}),
        effects=True,
        image="finetune" if part == "start" else "rl",
        # a round may be halted, which another attempt would not mend
        resources=Resources(cpu="2", memory="4Gi", **({"retries": 0} if part == "round" else {})),
    )


def pages_of(recipe: Recipe[Any], part: Literal["start", "round"]) -> dict[str, type[Artifact]]:
    """The pages that the stages of the start or of a round make, by name."""
    calls = calls_of(recipe, recipe.resolve(), part)
    return {name: kind for call in calls for name, kind in call.stage.outputs.items() if is_page(kind)}
