"""``close_round``: everything that comes after a round's evaluation, in one stage.

The gate decides about the candidates, the schedule says whether the loop continues, the history and the report are
written anew, the registry remembers the candidates and moves the champion. It is one decision with one write: killed at
any point, it is run again and comes to the same.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kfp.dsl import HTML, Artifact, Dataset, Markdown, Metrics

from selfloop import machine, metering
from selfloop.artifacts import VALUE, hand_on, manifest_of, read_json, seal, write_json
from selfloop.costs import Budget, Costs, Price, ends, gained, parsed, priced, spent_in
from selfloop.decision import ANCHOR
from selfloop.errors import HaltedError
from selfloop.promote.gate import judge
from selfloop.promote.reuse import Used
from selfloop.promote.spending import Ledger
from selfloop.records import ItemResult, rows
from selfloop.report import Role, add_round, publish, samples_page
from selfloop.report.history import read_history, read_moments
from selfloop.report.opening import about
from selfloop.report.render import brief
from selfloop.resources import Resources
from selfloop.settings import RunParams
from selfloop.stages import Stage, outputs_named

if TYPE_CHECKING:
    from selfloop.recipe import Recipe

log = logging.getLogger(__name__)
EVIDENCE = ("tasks", "rollouts", "verdicts", "audit", "examples", "others", "results")
"""What a round may have to show for itself."""
MADE = {"decision": Artifact, "report": HTML, "sampled": Markdown, "metrics": Metrics, "proceed": bool}
"""What the stage makes beside the loop's new state."""
CONSTANT = ("seed_data", ANCHOR)
"""What the frame carries and no round changes; the anchor is another where a loop that a person blessed continues."""
ITEMS = "items"
"""Where the loop's progress holds what it was judged on."""
WRITTEN = ("progress", "history")
"""What the stage itself writes anew of the loop's state."""


def close_stage(recipe: Recipe[Any], state: Mapping[str, type[Artifact]]) -> Stage:
    """The stage that ends a round of a recipe; where a guard halted the loop, it fails once all this is written."""
    changed = changing(recipe, state)

    def function(out: Any, params: RunParams, **given: Any) -> bool:
        return _Close(recipe, state, changed, out, params, given).run()

    function.__doc__ = "Decide about the round's candidates, and leave what the next round begins with."
    made = {f"next_{name}": kind for name, kind in changed.items() if name not in WRITTEN}
    return Stage(
        name="close_round",
        target=f"{recipe.target}.close_round",
        function=function,
        params=RunParams,
        inputs={**state, **made, **dict.fromkeys(EVIDENCE, Dataset)},
        optional=frozenset({*made, *EVIDENCE}),
        out=outputs_named("ClosedRound", {f"new_{name}": kind for name, kind in changed.items()} | MADE),
        effects=True,
        concludes=halt,
        resources=Resources(retries=0),  # what a guard halted stays halted
    )


def changing(recipe: Recipe[Any], state: Mapping[str, type[Artifact]]) -> dict[str, type[Artifact]]:
    """What of a loop's state a round may change."""
    return {name: kind for name, kind in state.items() if name not in {*CONSTANT, *recipe.frozen}}


def halt(out: Any) -> None:
    """Raise ``HaltedError`` where a guard halted the loop in this round."""
    decision = read_json(out.decision.path)
    if decision["verdict"] == "halted":
        raise HaltedError.because(decision["reason"])


class _Close:
    """One round's end: what it was given, and the steps in their order."""

    def __init__(
        self,
        recipe: Recipe[Any],
        state: Mapping[str, type[Artifact]],
        changed: Mapping[str, type[Artifact]],
        out: Any,
        params: RunParams,
        given: Mapping[str, Any],
    ) -> None:
        self.recipe, self.state, self.changed = recipe, state, changed
        self.out, self.params, self.given = out, params, given
        self.settings = recipe.settings_of(params)
        self._over, self._costs, self._history = "", Costs(), dict[str, Any]()

    def run(self) -> bool:
        """Decide, note, record and hand on. Returns whether another round is worth it and asked for."""
        from selfloop import lineage, notifications

        candidate, history = self._candidate(self.recipe.roles[0]), read_history(self.given["history"].path)
        decision = judge(self.settings.gate, self._evidence(), candidate, history["rounds"], self._ledger())
        decision["reused"] = {suite: again for suite, ids in self._items.items() if (again := self._used.again(ids))}
        write_json(self.out.decision.path, decision)
        proceed = self._advance(decision)
        self._report(history, decision)
        for name in WRITTEN:
            self._seal(getattr(self.out, f"new_{name}"))
        for name, value in lineage.measured(decision).items():
            self.out.metrics.log_metric(name, value)
        carried = self._recorded(decision)
        candidates = [manifest_of(self._candidate(role).path).digest for role in self.recipe.roles]
        notifications.notify(self.settings.loop, self.settings.number, candidates, decision)
        self._hand_on(carried)
        return proceed and self.settings.number < self.settings.last and not self._over

    def _report(self, history: dict[str, Any], decision: Mapping[str, Any]) -> None:
        roles = [Role(name, self.given[name], self._candidate(name)) for name in self.recipe.roles]
        own = {name: self._candidate(name) for name in self.recipe.own if name not in self.recipe.roles}
        state = {name: read_json(place.path) for name, place in own.items() if (Path(place.path) / VALUE).is_file()}
        state["progress"] = {k: each for k, each in read_json(self.out.new_progress.path).items() if k != ITEMS}
        add_round(self.settings.report, history, self._evidence(), roles, state, decision)
        spent = priced(self._calls(), parsed(Price, self.settings.price))
        before = self.given["history"]
        mine: dict[str, Any] = {"round": self.settings.number, "stages": spent, "gained": gained(decision)}
        mine["about"] = about(self.recipe, self.settings) | {"machine": machine.said()}
        moments = [*({**each, "about": {}} for each in read_moments(before.path)), mine]
        self._over = mine["ends"] = ends(parsed(Budget, self.settings.budget), moments)
        if self._over:
            log.warning("The loop ends after round %d: %s", self.settings.number, self._over)
        self._costs, self._history = Costs(spent_in(moments), spent, self._over), history
        publish(history, moments, self.out.new_history, self.out.report, before)
        Path(self.out.sampled.path).write_text(samples_page(history["rounds"][-1]), encoding="utf-8")

    def _calls(self) -> list[dict[str, Any]]:
        """What the stages of this round have spent, this one among them, as far as it is."""
        number = self.settings.number
        own = metering.meter().spent("", "close_round", number)
        return [*metering.spent_for((artifact.path for artifact in self.given.values()), number), own]

    def _evidence(self) -> dict[str, Dataset]:
        return {name: self.given[name] for name in EVIDENCE if name in self.given}

    def _candidate(self, name: str) -> Artifact:
        """What the round made of a field of the state; the field as it was, where it made nothing of it."""
        found: Artifact = self.given.get(f"next_{name}", self.given[name])
        return found

    @cached_property
    def _progress(self) -> dict[str, Any]:
        """What the schedule kept, under ``gate`` what the loop's error budget has come to, and under ``items`` what it
        was judged on.
        """
        return dict(read_json(self.given["progress"].path))

    @cached_property
    def _results(self) -> list[ItemResult]:
        return list(rows(self.given["results"].path, ItemResult)) if "results" in self.given else []

    @cached_property
    def _items(self) -> dict[str, set[str]]:
        """The items of each suite that were answered."""
        found: dict[str, set[str]] = {}
        for each in self._results:
            found.setdefault(each.suite, set()).add(each.task)
        return found

    @cached_property
    def _used(self) -> Used:
        return Used.of(self._progress.get(ITEMS, {}))

    def _ledger(self) -> Ledger:
        """What the error budget has come to: as the state says, or the registry, which knows of what was rolled back,
        and of the runs beside this one.
        """
        from selfloop import lineage

        known = [self._progress.get("gate", {}), *(lineage.ledgers(self.settings) if lineage.is_on() else [])]
        return max(map(Ledger.of, known), key=lambda ledger: ledger.looks)

    def _advance(self, decision: Mapping[str, Any]) -> bool:
        before = {name: value for name, value in self._progress.items() if name not in ("gate", ITEMS)}
        advanced, proceed = self.settings.schedule.advance(before, self._results, decision["promoted"])
        budget = decision["budget"]
        ledger = budget["ledger"] | {"next": budget["next"]} if budget else self._progress.get("gate")
        used = self._used.after(set().union(*self._items.values())) if self._items else None
        items = used.as_state() if used else self._progress.get(ITEMS)
        own = {name: value for name, value in {"gate": ledger, ITEMS: items}.items() if value}
        write_json(self.out.new_progress.path, advanced | own)
        return bool(proceed)

    def _seal(self, output: Artifact) -> None:
        inputs = {name: manifest_of(self.given[name].path).digest for name in (*self.state, *self._evidence())}
        params = self.params.model_dump(mode="json")
        manifest = seal(Path(output.path), "Artifact", stage="close_round", params=params, inputs=inputs)
        output.metadata.update(manifest.metadata | {"digest": manifest.digest})

    def _recorded(self, decision: Mapping[str, Any]) -> Mapping[str, Artifact]:
        """What the loop continues with: as decided, unless the registry says that the champion was moved meanwhile."""
        from selfloop import lineage

        before = {name: self.given[name] for name in self.state}
        new = {name: getattr(self.out, f"new_{name}") for name in WRITTEN}
        after = before | {name: self._candidate(name) for name in self.changed if name not in new} | new
        if lineage.is_on():
            rounds = brief(self._history)["shown"]
            return lineage.record_round(self.recipe, self.settings, before, after, decision, self._costs, rounds)
        return lineage.as_decided(self.recipe, before, after, decision["promoted"])

    def _hand_on(self, carried: Mapping[str, Artifact]) -> None:
        for name in self.changed:
            output = getattr(self.out, f"new_{name}")
            if carried[name] is not output:
                shutil.rmtree(output.path)  # room was made for it, or the loop continues from elsewhere
                hand_on(carried[name], output)
