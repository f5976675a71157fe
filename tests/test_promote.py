"""The stages that end a round and restore a loop, as a recipe has them: here one with two roles and some state."""

import itertools
import shutil
import signal
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest
from kfp.dsl import Artifact, Dataset, Model
from mlflow import MlflowClient
from selfloop import lineage, notifications
from selfloop.artifacts import Manifest, check, manifest_of, read_json, seal, write_json
from selfloop.errors import HaltedError, UserError
from selfloop.guards.length import Length
from selfloop.lineage import decisions, record
from selfloop.lineage.registry import Registry
from selfloop.lineage.rounds import record_of
from selfloop.loop import Improved, Loop, LoopSettings, Now, state_of
from selfloop.modes.inprocess import InProcess
from selfloop.modes.noting import calls_of
from selfloop.promote import GateParams, RestoreParams, close_stage, restore_stage
from selfloop.recipe import Recipe
from selfloop.records import ItemResult
from selfloop.report.history import read_history
from selfloop.stages import executed_by

from . import forked
from .conftest import sealed_table

pytestmark = pytest.mark.slow

A = TypeVar("A", bound=Artifact)


class TwoRoles(LoopSettings, schedule="none,patience=2", gate=GateParams(guards=[Length()])):
    """Two roles that nothing trains: the candidates are given."""


class State(NamedTuple):
    solver: Model
    proposer: Model
    memory: Artifact
    rules: Artifact


def start(s: TwoRoles, policy: Model) -> State:
    raise AssertionError


def improve(s: TwoRoles, now: Now) -> Improved:
    """Only the proposer is another: the names are those of calls that are noted, not made."""
    return Improved(now.state._replace(proposer="candidate"))


RECIPE = Recipe("two-roles", TwoRoles, State, start, improve, frozen=("rules",))
STATE = state_of(RECIPE)
CLOSE = close_stage(RECIPE, STATE)
CHANGED = ("solver", "proposer", "memory", "progress", "replay_pool", "history")
BETTER: dict[str, Any] = {"solves": True, "longer": 1.0}
WORSE: dict[str, Any] = {"solves": False, "longer": 1.0}
VALUES = {"progress": {"frontier": 2, "accuracy": {}}, "history": {"title": "Two roles", "stages": {}, "number": 0}}


def sealed(place: Path, kind: type[A], value: Any) -> A:
    """An artifact of this kind that holds a value."""
    write_json(place, value)
    manifest = seal(place, kind.__name__, stage="made", metadata={"size": len(str(value))})
    return kind(uri=str(place), metadata=manifest.metadata | {"digest": manifest.digest})


def begun(place: Path) -> dict[str, Artifact]:
    """What the first round begins with."""
    return {name: sealed(place / name, kind, VALUES.get(name, f"{name} 0")) for name, kind in STATE.items()}


def candidates(place: Path, *names: str, round: int = 1) -> dict[str, Artifact]:
    """What a round made of the fields of these names."""
    return {f"next_{name}": sealed(place / f"next_{name}", STATE[name], f"{name} {round}") for name in names}


def answers(solves: bool, longer: float) -> Iterator[ItemResult]:
    """Held-out answers: does the candidate solve the target's items, how much longer are its answers to old ones?"""
    for policy, ok, length in (("champion", False, 10), ("candidate", solves, round(10 * longer))):
        yield from (ItemResult(policy, "target", 2, f"t{item}", 0, ok, "7") for item in range(8))
        yield from (ItemResult(policy, "old", 1, f"o{item}", 0, True, "7" * length) for item in range(120))


def given(place: Path, solves: bool, longer: float) -> dict[str, Artifact]:
    """All that the stage takes: both roles have candidates, and the memory is passed on."""
    results = sealed_table(place / "results", ItemResult, answers(solves, longer))
    return begun(place) | candidates(place, "solver", "proposer", "memory") | {"results": results}


def closed(root: Path, inputs: Mapping[str, Artifact], round: int = 1, **settings: Any) -> Any:
    """The round's end in process: its outputs, each where it lies."""
    with executed_by(InProcess(root, round=round)):
        return CLOSE(RECIPE.run_params(RECIPE.resolve(settings).for_round(round)), **inputs)


def left(root: Path) -> dict[str, Manifest]:
    """What a stage that came to its end left in a workspace, by name."""
    (place,) = root.glob("round-*/close_round-*")
    return {each.name: check(each) for each in place.iterdir() if (each / "manifest.json").exists()}


@pytest.mark.parametrize(
    ("verdict", "about"),
    [("promoted", BETTER), ("rejected", WORSE), ("pending", BETTER | {"longer": 1.9})],
)
def test_whichever_is_in_force_is_handed_on_for_every_role_and_the_state_in_any_case(
    tmp_path: Path, verdict: str, about: dict[str, Any]
) -> None:
    inputs = given(tmp_path / "given", **about)
    made = closed(tmp_path / "run", inputs)
    decision = read_json(made.decision.path)
    assert (decision["verdict"], decision["promoted"]) == (verdict, verdict == "promoted")
    for name in ("solver", "proposer", "memory"):
        in_force = inputs[f"next_{name}" if name == "memory" or verdict == "promoted" else name]
        handed_on = getattr(made, f"new_{name}")
        assert check(handed_on.path) == manifest_of(in_force.path)
        assert handed_on.metadata == in_force.metadata
    assert check(made.new_replay_pool.path) == manifest_of(inputs["replay_pool"].path), "it was left as it is"
    assert set(made._fields) == {f"new_{name}" for name in CHANGED} | {
        "decision", "report", "sampled", "metrics", "proceed"
    }  # fmt: skip
    progress = read_json(made.new_progress.path)
    assert progress["waited"] == (0 if verdict == "promoted" else 1)
    assert progress["gate"] == decision["budget"]["ledger"] | {"next": decision["budget"]["next"]}
    assert made.proceed
    assert made.metrics.metadata["target.gain"] == (1.0 if about["solves"] else 0.0)


def test_items_that_an_earlier_round_was_judged_on_are_counted(tmp_path: Path) -> None:
    inputs = given(tmp_path / "given", **BETTER)
    first = closed(tmp_path / "first", inputs)
    assert read_json(first.decision.path)["reused"] == {}
    later = inputs | {name: getattr(first, f"new_{name}") for name in ("progress", "history")}
    again = closed(tmp_path / "again", later, round=2)
    found = read_json(again.decision.path)
    assert found["reused"] == {suite: each["items"] for suite, each in found["suites"].items()}
    assert "used before" in Path(again.report.path).read_text()


def test_the_history_and_the_report_tell_of_the_round_and_of_all_its_roles(tmp_path: Path) -> None:
    inputs = given(tmp_path / "given", **BETTER)
    made = closed(tmp_path / "run", inputs)
    (round,) = read_history(made.new_history.path)["rounds"]
    assert round["decision"] == read_json(made.decision.path)
    assert round["suites"] == {"old": [1], "target": [2]}
    assert [(role["role"], role["before"], role["after"]) for role in round["roles"]] == [
        (role, manifest_of(inputs[role].path).digest, manifest_of(inputs[f"next_{role}"].path).digest)
        for role in RECIPE.roles
    ]
    kept = {"waited": 0, "gate": {"looks": 1, "charged": 0, "confirmed": 1, "spent": 0.0, "next": 0.0125}}
    assert round["state"] == {"memory": "memory 1", "rules": "rules 0", "progress": kept}
    page = Path(made.report.path).read_text()
    assert "Two roles" in page
    assert "promoted" in page
    assert Path(made.sampled.path).read_text().startswith("# Round 1: 0 tasks")


def test_rounds_add_up_and_the_schedule_says_when_no_other_is_worth_it(tmp_path: Path) -> None:
    inputs, proceeds = given(tmp_path / "given", **WORSE), []
    for round in (1, 2):
        made = closed(tmp_path / "run", inputs, round)
        inputs |= {name: getattr(made, f"new_{name}") for name in CHANGED}
        proceeds.append(made.proceed)
    assert proceeds == [True, False], "two rounds in a row without a promotion"
    assert [each["round"] for each in read_history(made.new_history.path)["rounds"]] == [1, 2]
    assert manifest_of(made.new_solver.path).digest == manifest_of(tmp_path / "given" / "solver").digest


def unconfirmed(place: Path, looks: int) -> dict[str, Artifact]:
    """What a round is given whose candidate passes the first look and not the second."""
    second = (each._replace(suite="confirm") for each in answers(**WORSE) if each.suite == "target")
    progress = {"waited": 0, "gate": {"looks": looks, "charged": looks, "confirmed": 0, "spent": 0.001 * looks}}
    return {
        **begun(place),
        **candidates(place, "solver"),
        "results": sealed_table(place / "results", ItemResult, [*answers(**BETTER), *second]),
        "progress": sealed(place / "known", Artifact, progress),
    }


def test_what_a_look_has_spent_goes_on_to_the_next_round_and_stays_where_the_gate_asks_nothing(tmp_path: Path) -> None:
    made = closed(tmp_path / "run", unconfirmed(tmp_path / "given", looks=1))
    ledger = {"looks": 2, "charged": 2, "confirmed": 0, "spent": pytest.approx(0.001 + 0.05 / 6)}
    assert read_json(made.decision.path)["budget"]["ledger"] == ledger
    assert read_json(made.new_progress.path)["gate"] == ledger | {"next": pytest.approx(0.05 / 24)}
    nothing = unconfirmed(tmp_path / "other", looks=1)
    made = closed(tmp_path / "nothing", nothing, gate={"require": "nothing"})
    assert read_json(made.decision.path)["budget"] == {}
    assert read_json(made.new_progress.path)["gate"] == {"looks": 1, "charged": 1, "confirmed": 0, "spent": 0.001}


def test_a_guard_that_halted_the_loop_fails_the_stage_once_all_is_written(tmp_path: Path) -> None:
    inputs = given(tmp_path / "given", **BETTER | {"longer": 2.5})
    for _ in ("the first time", "when it is called again"):
        with pytest.raises(HaltedError, match=r"guard 'length' halted the loop.*The champion stays in force"):
            closed(tmp_path / "run", inputs)
    found = left(tmp_path / "run")
    assert found.keys() == {f"new_{name}" for name in CHANGED} | {"decision"}
    for role in RECIPE.roles:
        assert found[f"new_{role}"] == manifest_of(inputs[role].path)
    (place,) = (tmp_path / "run").glob("round-01/close_round-*")
    assert read_json(place / "decision")["verdict"] == "halted"
    assert [round["decision"]["verdict"] for round in read_history(place / "new_history")["rounds"]] == ["halted"]
    assert "guard &#39;length&#39; halted the loop" in (place / "report").read_text()


KILLED = textwrap.dedent("""
    import os, signal, sys
    from itertools import count
    from pathlib import Path
    from tests.test_promote import BETTER, closed, given

    place, last = Path(sys.argv[1]), int(sys.argv[2])
    inputs, steps = given(place / "given", **BETTER), count(1)

    def dying(write):
        def happens(*words, **named):
            write(*words, **named)
            if next(steps) == last:
                os.kill(os.getpid(), signal.SIGKILL)
        return happens

    for name in ("link", "replace", "rename"):
        setattr(os, name, dying(getattr(os, name)))
    closed(place / "run", inputs)
""")


def test_killed_at_any_of_its_steps_and_run_again_it_comes_to_the_same(tmp_path: Path) -> None:
    """Each attempt finds what the one before it left, and dies one step later."""
    closed(tmp_path / "undisturbed", given(tmp_path / "given", **BETTER))
    for step in itertools.count(1):
        ended = forked.run("-c", KILLED, str(tmp_path), str(step), cwd=Path(__file__).parents[1])
        if list(tmp_path.glob("run/round-01/close_round-????????????")):
            break
        assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert step > 15, "it writes a decision, the progress, a history, and what is handed on"
    expected, found = left(tmp_path / "undisturbed"), left(tmp_path / "run")
    assert {name: manifest.digest for name, manifest in found.items()} == {
        name: manifest.digest for name, manifest in expected.items()
    }
    assert not list(tmp_path.glob("run/round-01/*.partial"))


def test_a_loop_that_measures_nothing_of_its_role_closes_without_a_test(tmp_path: Path) -> None:
    inputs = begun(tmp_path / "given") | candidates(tmp_path / "given", "solver")
    made = closed(tmp_path / "run", inputs, gate={"guards": ["length", "precision", "distinct", "contamination"]})
    decision = read_json(made.decision.path)
    assert decision["verdict"] == "promoted"
    assert decision["reason"].startswith("promoted without a test: this loop has no suite")
    assert (decision["suites"], decision["audit"]) == ({}, {})
    assert {name: (alarm["level"], alarm["says"]) for name, alarm in decision["guards"].items()} == {
        "length": ("green", "this loop has no results"),
        "precision": ("green", "this loop has no audit"),
        "distinct": ("green", "this loop has no rollouts"),
        "contamination": ("green", "there are no new examples"),
    }
    assert manifest_of(made.new_solver.path) == manifest_of(inputs["next_solver"].path)
    assert manifest_of(made.new_proposer.path) == manifest_of(inputs["proposer"].path)
    assert "promoted without a test" in Path(made.report.path).read_text()


def test_the_champion_outlives_where_it_came_from(tmp_path: Path) -> None:
    inputs = given(tmp_path / "given", **BETTER)
    known = manifest_of(inputs["next_solver"].path)
    made = closed(tmp_path / "run", inputs)
    shutil.rmtree(tmp_path / "given")
    assert check(made.new_solver.path) == known


def test_the_webhook_is_notified_before_anything_is_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    handed_on = (tmp_path / "run").rglob
    monkeypatch.setattr(
        notifications, "notify", lambda *about: sent.append((*about, list(handed_on("new_solver/manifest.json"))))
    )
    inputs = given(tmp_path / "given", **BETTER)
    closed(tmp_path / "run", inputs, model="pair")
    ((loop, round, digests, decision, there),) = sent
    assert (loop, round, decision["verdict"], there) == ("pair", 1, "promoted", [])
    assert list(handed_on("new_solver/manifest.json"))
    assert digests == [manifest_of(inputs[f"next_{role}"].path).digest for role in RECIPE.roles]


# Roles of any kind


class Unimproved(NamedTuple):
    archive: Dataset


def test_a_role_may_be_of_any_kind(tmp_path: Path) -> None:
    recipe = Recipe("archive", TwoRoles, Unimproved, start, improve, roles=("archive",))
    close = close_stage(recipe, state_of(recipe))
    inputs = {
        name: sealed(tmp_path / name, kind, VALUES.get(name, f"{name} 0")) for name, kind in state_of(recipe).items()
    }
    inputs["next_archive"] = sealed(tmp_path / "next", Dataset, "archive 1")
    with executed_by(InProcess(tmp_path / "run", round=1)):
        made = close(recipe.run_params(recipe.resolve().for_round(1)), **inputs)
    assert manifest_of(made.new_archive.path) == manifest_of(inputs["next_archive"].path)


def test_the_end_of_a_round_is_given_nothing_twice(tmp_path: Path) -> None:
    inputs = given(tmp_path / "given", **BETTER)
    with pytest.raises(UserError, match="given the same artifact as 'memory' and as 'next_memory'"):
        closed(tmp_path / "run", inputs | {"next_memory": inputs["memory"]})
    (call,) = calls_of(RECIPE, RECIPE.resolve().for_round(1), "round")
    assert call.inputs == {name: name for name in STATE} | {"next_proposer": "candidate"}


def test_what_no_round_changes_is_no_output_and_continues_as_it_is(tmp_path: Path) -> None:
    before = begun(tmp_path / "given")
    loop, solver = Loop(RECIPE), sealed(tmp_path / "next", Model, "solver 1")
    last = loop.state(**before, proceed=True)
    after = State(solver, last.proposer, last.memory, last.rules)
    with executed_by(InProcess(tmp_path / "run", round=1)):
        state = loop.close(RECIPE.resolve().for_round(1), last, Improved(after), None)
    assert (state.rules, state.seed_data) == (before["rules"], before["seed_data"])
    assert manifest_of(state.solver.path) == manifest_of(solver.path)
    assert state.proceed


# With a registry


def restored(root: Path, origin: str, recipe: Recipe[Any] = RECIPE) -> Any:
    params = RestoreParams(origin=origin, environment="addition")
    with executed_by(InProcess(root)):
        return restore_stage(recipe, state_of(recipe))(params)


def test_a_loop_is_restored_from_what_its_round_left(client: MlflowClient, tmp_path: Path) -> None:
    inputs = given(tmp_path / "given", **BETTER)
    with lineage.tracked_run("run", {}, tmp_path / "note", tmp_path / "mlflow"):
        made = closed(tmp_path / "run", inputs)
    loop = RECIPE.resolve().loop
    assert loop == "two-roles-addition"
    assert [version.tag("verdict") for version in Registry(loop).versions().values()] == ["start", "promoted"]
    first, second = (restored(tmp_path / f"from-{number}", f"{loop}/{number}") for number in (1, 2))
    for name in STATE:
        assert check(getattr(first, name).path) == manifest_of(inputs[name].path)
        new = getattr(made, f"new_{name}", inputs[name])
        assert check(getattr(second, name).path) == manifest_of(new.path)
        assert getattr(second, name).metadata == new.metadata


def test_where_the_champion_was_moved_meanwhile_the_round_leaves_that_version_with_its_state(
    client: MlflowClient, tmp_path: Path
) -> None:
    inputs, loop = given(tmp_path / "given", **BETTER), RECIPE.resolve().loop
    with lineage.tracked_run("run", {}, tmp_path / "note", tmp_path / "mlflow"):
        first = closed(tmp_path / "run", inputs)
        client.set_registered_model_alias(loop, "champion", "1")
        later = inputs | {name: getattr(first, f"new_{name}") for name in CHANGED}
        later |= candidates(tmp_path / "later", "solver", "proposer", "memory", round=2)
        second = closed(tmp_path / "run", later, round=2)
    assert read_json(second.decision.path)["verdict"] == "promoted"
    for name in CHANGED:
        assert check(getattr(second, f"new_{name}").path) == manifest_of(inputs[name].path), "that of version 1"
    assert [move.kind for move in Registry(loop).moves()] == ["start", "promote", "by hand"]


def test_a_round_that_is_closed_again_is_in_the_registry_once(client: MlflowClient, tmp_path: Path) -> None:
    inputs, loop = given(tmp_path / "given", **BETTER), RECIPE.resolve().loop
    for attempt in ("killed", "again"):
        with lineage.tracked_run("run", {}, tmp_path / "note", tmp_path / "mlflow"):
            closed(tmp_path / attempt, inputs)
    assert len(Registry(loop).versions()) == 2
    assert [move.version for move in Registry(loop).moves()] == [1, 2]
    digests = [{name: each.digest for name, each in left(tmp_path / place).items()} for place in ("killed", "again")]
    assert digests[0] == digests[1]


def test_what_was_spent_is_spent_after_a_rollback_in_a_fork_and_in_a_run_beside(
    client: MlflowClient, tmp_path: Path
) -> None:
    """The state that a version left knows less than the registry."""
    loop = RECIPE.resolve().loop

    def spent(name: str, looks: int, **settings: Any) -> dict[str, Any]:
        with lineage.tracked_run(name, {}, tmp_path / f"note-{name}", tmp_path / "mlflow"):
            made = closed(tmp_path / name, unconfirmed(tmp_path / f"given-{name}", looks), **settings)
        return dict(read_json(made.decision.path)["budget"]["ledger"])

    assert spent("first", looks=4)["looks"] == 5
    known = spent("rolled back", looks=1)
    assert known == {"looks": 6, "charged": 6, "confirmed": 0, "spent": pytest.approx(0.004 + 0.05 / 30 + 0.05 / 42)}
    assert spent("fork", looks=0, model="fork", origin=f"{loop}/1", first=1)["looks"] == 7
    assert spent("another loop", looks=0, model="other")["looks"] == 1
    assert spent("in it again", looks=0)["looks"] == 7


def test_a_loop_continues_with_the_last_blessed_champion_as_its_anchor(client: MlflowClient, tmp_path: Path) -> None:
    inputs, loop = given(tmp_path / "given", **BETTER), RECIPE.resolve().loop
    with lineage.tracked_run("run", {}, tmp_path / "note", tmp_path / "mlflow"):
        closed(tmp_path / "run", inputs)

    def anchor(name: str) -> Manifest:
        return check(restored(tmp_path / name, f"{loop}/2").anchor.path)

    assert anchor("unblessed") == manifest_of(inputs["anchor"].path)
    assert decisions.bless(loop, None, "a month of use").number == 2
    assert anchor("blessed") == manifest_of(inputs["next_solver"].path)
    decisions.bless(loop, "1", "the old one was better")
    assert anchor("again") == manifest_of(inputs["solver"].path)
    with pytest.raises(UserError, match="A blessing needs a reason"):
        decisions.bless(loop, None, " ")


def test_a_version_from_before_there_were_anchors_has_what_its_loop_began_with(
    client: MlflowClient, tmp_path: Path
) -> None:
    inputs, registry = given(tmp_path / "given", **BETTER), Registry(RECIPE.resolve().loop)
    with lineage.tracked_run("run", {}, tmp_path / "note", tmp_path / "mlflow"):
        closed(tmp_path / "run", inputs)
    was = record.read(record_of(registry, 2))
    state = {name: each for name, each in was.after.items() if name != "anchor"}
    registry.tag(2, {"record": record.write(was.model_copy(update={"after": state}))})
    assert check(restored(tmp_path / "old", f"{registry.name}/2").anchor.path) == manifest_of(inputs["solver"].path)
    registry.tag(2, {"parent": "7"})
    with pytest.raises(UserError, match=r"Version 2 .* names no anchor.*'selfloop bless two-roles-addition --reason"):
        restored(tmp_path / "lost", f"{registry.name}/2")


def test_what_was_never_in_force_is_not_blessed(client: MlflowClient, tmp_path: Path) -> None:
    with lineage.tracked_run("run", {}, tmp_path / "note", tmp_path / "mlflow"):
        closed(tmp_path / "run", given(tmp_path / "given", **WORSE))
    with pytest.raises(UserError, match="Version 2 of two-roles-addition was never in force: bless one that was"):
        decisions.bless(RECIPE.resolve().loop, "2", "it looked nice")


MOMENTS = {"the start": 2, "its move": 3, "the candidate": 6, "the move to it": 7}
"""What the first round of a loop registers beside the versions of its two roles, and how much it has before."""


def test_a_round_that_two_pods_close_at_once_is_in_the_registry_once(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pod that was deleted by force may go on while KFP runs another: here the other one does all of it, between what
    this one has looked at and what it writes.
    """
    append = Registry._append
    inputs = given(tmp_path / "given", **BETTER)
    for moment in MOMENTS.values():
        place, loop, count = tmp_path / str(moment), f"pair-{moment}", itertools.count()

        def after_the_other(self: Registry, *words: Any) -> Any:
            if next(count) == moment:  # noqa: B023 (called in this turn)
                closed(place / "other", inputs, model=loop)  # noqa: B023
            return append(self, *words)

        monkeypatch.setattr(Registry, "_append", after_the_other)
        with lineage.tracked_run(loop, {}, tmp_path / f"note-{moment}", tmp_path / "mlflow") as run:
            closed(place / "mine", inputs, model=loop)
        assert next(count) > moment, "there was such a moment"
        assert len(Registry(loop).versions()) == 2
        assert [(move.kind, move.version) for move in Registry(loop).moves()] == [("start", 1), ("promote", 2)]
        digests = [{name: each.digest for name, each in left(place / one).items()} for one in ("mine", "other")]
        assert digests[0] == digests[1]
        experiment = client.get_run(run).info.experiment_id
        assert len(client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{run}'")) == 1


class Lesser(NamedTuple):
    solver: Model
    judge: Model


def test_a_version_of_another_recipe_is_refused_by_what_it_lacks(client: MlflowClient, tmp_path: Path) -> None:
    with lineage.tracked_run("run", {}, tmp_path / "note", tmp_path / "mlflow"):
        closed(tmp_path / "run", given(tmp_path / "given", **BETTER))
    other = Recipe("lesser", TwoRoles, Lesser, start, improve)
    with pytest.raises(UserError, match="was made by another recipe: it has no judge, which 'lesser' continues with"):
        restored(tmp_path / "other", f"{RECIPE.resolve().loop}/2", other)
