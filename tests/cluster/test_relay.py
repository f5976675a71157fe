"""A loop that is longer than a run: each run begins the next one, once, and together they are one loop."""

import json
import math
import os
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kfp.dsl import Artifact, Markdown
from kfp_server_api import RunServiceApi
from kubernetes.client import CoordinationV1Api
from mlflow import MlflowClient
from selfloop.artifacts import read_json
from selfloop.cluster import lease, relay, runs, uploads
from selfloop.cluster.connection import Connection
from selfloop.errors import UserError
from selfloop.lineage import carried_from, left_by, opened_run
from selfloop.lineage.registry import Registry
from selfloop.loop import loop_of, state_of
from selfloop.modes import relaying, resolving
from selfloop.modes.calls import shape_of
from selfloop.modes.compiling import compile_pipeline, run_locally
from selfloop.modes.inprocess import InProcess, Silent, run
from selfloop.modes.pods import entered_flat
from selfloop.recipe import Recipe, find_recipe
from selfloop.stages import Stage

from ..conftest import sealed_value
from ..lineage.worker import child
from . import kubernetes_api
from .conftest import Ended
from .kfp_server import Fault, Kfp
from .kubernetes_api import LEASES, KubernetesApi

pytestmark = pytest.mark.slow

kubernetes, pod = kubernetes_api.kubernetes, kubernetes_api.pod
DICE = Path(__file__).parents[1] / "modes" / "dice.py"
LOOP, FIRST = "dice-addition", "first"
LEASE = f"{LEASES}/selfloop-{LOOP}"
ASKED = {"rounds": 5, "streams": ["left"]}
"""Five rounds, of which a run holds two."""


@pytest.fixture(scope="module")
def dice() -> Recipe[Any]:
    return find_recipe(str(DICE))


@pytest.fixture(scope="module")
def package(dice: Recipe[Any], tmp_path_factory: pytest.TempPathFactory) -> uploads.Package:
    place = tmp_path_factory.mktemp("relayed") / "dice.yaml"
    compile_pipeline(dice, dice.resolve(ASKED), place, fused=True, held=2)
    return uploads.Package(dice.name, dice.target, place)


@pytest.fixture
def submitted(connected: Connection, package: uploads.Package) -> Callable[[], str]:
    """Begins a run, by a person or a schedule; its id."""
    version, experiment = uploads.uploaded(connected, package), uploads.experiment(connected, "loop")
    return lambda: runs.submit(connected, package, version, experiment, {"seed": 3})


@pytest.fixture
def begun(kfp: Kfp, submitted: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The first run of a loop, whose pods find KFP."""
    monkeypatch.setenv("SELFLOOP_KFP_ENDPOINT", kfp.url)
    kfp.runs[FIRST] = kfp.runs.pop(submitted()) | {"run_id": FIRST}
    return FIRST


@pytest.fixture
def relays(dice: Recipe[Any], tmp_path: Path) -> Callable[[str], str]:
    """Ends a run with the stage ``relay``; what that shows on the run's page."""
    about = {"recipe": dice.target, "settings": dice.resolve(ASKED, {"seed": 3}).overrides(), "environment": {}}
    resolved, shown = sealed_value(tmp_path / "resolved", about), Markdown(uri=str(tmp_path / "continuation"))

    def end(run_id: str) -> str:
        entered_flat(relaying.relay, {"run": run_id, "resolved": resolved, "continuation": shown})
        return Path(shown.path).read_text()

    return end


@pytest.fixture
def resolves(dice: Recipe[Any], tmp_path: Path) -> Callable[..., Any]:
    """Begins a run with the stage ``resolve``; the settings that this decides on."""
    settings = dice.resolve(ASKED)
    form = {name: default for name, (_, default, _) in resolving.form_of(dice, settings).items()}
    form |= {"compiled": json.dumps(settings.overrides()), "shape": shape_of(dice, settings), "held": 2}

    def begin(run_id: str, origin: str, again: str = "") -> Any:
        made = Artifact(uri=str(tmp_path / f"resolved-{run_id}{again}"))
        resolving.enter(dice.target, form | {"run": run_id, "origin": origin, "resolved": made})
        return dice.resolve(read_json(made.path)["settings"])

    return begin


class Two(InProcess):
    """Runs the first two rounds of a loop, as a run of KFP that holds no more."""

    def begins(self, round: int, proceed: Any) -> bool:
        return super().begins(round, proceed and round < 3)


def two_rounds(dice: Recipe[Any], place: Path, listener: Silent | None = None) -> Any:
    """Do two rounds as the first run; what the third would have begun with."""
    settings = dice.resolve(ASKED)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MLFLOW_RUN_ID", opened_run("loop", settings.overrides(), FIRST))
        return loop_of(dice).drive(settings, Two(place, listener))


@pytest.fixture(scope="module")
def registered(dice: Recipe[Any], tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Path:
    """MLflow's file after the first run has done its two rounds."""
    file = Path(shutil.copy(migrated, tmp_path_factory.mktemp("registered")))
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{file}")
        mlflow.set_tracking_uri(f"sqlite:///{file}")
        mlflow.set_registry_uri(f"sqlite:///{file}")
        two_rounds(dice, file.with_name("run"))
    return file


@pytest.fixture
def two_done(client: MlflowClient, registered: Path, tmp_path: Path) -> None:
    """A registry in which the first run has done its two rounds."""
    shutil.copy(registered, tmp_path)


def _others(kfp: Kfp, *known: str) -> list[str]:
    return [run_id for run_id in kfp.runs if run_id not in known]


@pytest.mark.usefixtures("tasks_forked")
@pytest.mark.parametrize(("fused", "rounds", "held"), [(True, 5, 2), (False, 2, 1)], ids=["fused", "kfp"])
def test_a_chain_of_runs_comes_to_what_one_run_does(
    dice: Recipe[Any], kfp: Kfp, begun: str, client: MlflowClient, tmp_path: Path, fused: bool, rounds: int, held: int
) -> None:
    """Its rounds are numbered through, with seeds that follow, in one run of MLflow and one report."""
    asked, parts = dice.resolve(ASKED, {"rounds": rounds}), math.ceil(rounds / held)
    told: list[str] = []

    def adopt(run_id: str) -> None:  # kfp.local chooses the id of a run itself
        (newest,) = _others(kfp, *told)
        told.append(run_id)
        kfp.runs[run_id] = kfp.runs.pop(newest) | {"run_id": run_id}

    for part in range(parts):
        (newest,) = _others(kfp, *told)
        form = kfp.runs[newest]["runtime_config"]["parameters"]
        kfp.looks = [adopt]
        run_locally(dice, asked, tmp_path / f"part-{part}", fused, form, held=held)
    assert len(kfp.runs) == parts, "the last one is continued by none"
    alone, _ = run(dice, dice.resolve(asked.overrides(), {"seed": 3, "model": "alone"}), tmp_path / "alone")
    versions = Registry(LOOP).versions()
    assert [(each.tag("round"), each.tag("parent")) for each in versions.values()] == [
        ("0", ""),
        *((str(number), str(number)) for number in range(1, rounds + 1)),
    ]
    assert len({each.tag("run") for each in versions.values()}) == 1, "one run of MLflow"
    assert len({each.tag("kfp_run") for each in versions.values()}) == parts
    state = carried_from(dice, state_of(dice), f"{LOOP}/{rounds + 1}", "addition")
    assert {name: each.metadata["digest"] for name, each in state.items()} == {
        name: getattr(alone, name).metadata["digest"] for name in state
    }, "champion, state and the report's history"


def test_a_pipeline_that_holds_all_rounds_has_no_relay(dice: Recipe[Any], tmp_path: Path) -> None:
    for held, has_relay in ((2, True), (5, False), (6, False), (None, False)):
        compile_pipeline(dice, dice.resolve(ASKED), tmp_path / "p.yaml", fused=True, held=held)
        assert ("exec-relay" in (tmp_path / "p.yaml").read_text()) == has_relay


def test_the_next_run_is_of_the_same_version_with_the_same_inputs(
    kfp: Kfp, begun: str, relays: Callable[[str], str]
) -> None:
    kfp.runs[begun] |= {"service_account": "mine", "display_name": "dice of tonight"}
    shown = relays(begun)
    (made,) = _others(kfp, begun)
    before, after = kfp.runs[begun], kfp.runs[made]
    for name in ("experiment_id", "pipeline_version_reference", "service_account"):
        assert after[name] == before[name]
    assert after["runtime_config"]["parameters"] == {"seed": 3, "model": "", "origin": f"run:{begun}"}
    assert after["display_name"] == "dice of tonight · part 2"
    assert f"(#/runs/details/{made})" in shown
    relays(made)
    (last,) = _others(kfp, begun, made)
    assert kfp.runs[last]["runtime_config"]["parameters"] == {"seed": 3, "model": "", "origin": f"run:{made}"}
    assert kfp.runs[last]["display_name"] == "dice of tonight · part 3"


@given(st.text())
def test_the_name_of_a_run_tells_which_part_of_a_loop_it_is(name: str) -> None:
    second = relay.next_name(name)
    third = relay.next_name(second)
    assert len({name, second, third}) == 3
    parts = [each.rpartition(" · part ") for each in (second, third)]
    assert parts[0][0] == parts[1][0]
    assert int(parts[1][2]) == int(parts[0][2]) + 1


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize(
    ("api", "write"),
    [(RunServiceApi, "run_service_create_run"), (CoordinationV1Api, "replace_namespaced_lease")],
    ids=["run", "lease"],
)
@pytest.mark.usefixtures("pod")
def test_killed_at_the_hand_over_a_loop_is_continued_once(
    kfp: Kfp,
    kubernetes: KubernetesApi,
    begun: str,
    relays: Callable[[str], str],
    api: type,
    write: str,
    before: bool,
) -> None:
    def dies() -> None:
        original = getattr(api, write)

        def writes(*words: Any, **named: Any) -> None:
            if not before:
                original(*words, **named)
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(api, write, writes)
        relays(begun)

    lease.hold(LOOP, begun, lambda run_id: False)
    assert child(dies)[0] == -signal.SIGKILL
    relays(begun)
    (made,) = _others(kfp, begun)
    assert kubernetes.objects[LEASE]["spec"]["holderIdentity"] == made


def test_where_no_answer_came_it_is_looked_for_what_was_begun(
    kfp: Kfp, begun: str, relays: Callable[[str], str]
) -> None:
    kfp.fault("RunService_CreateRun", Fault(drops="before"), *[Fault(503)] * 8, Fault(drops="after"))
    relays(begun)
    assert len(kfp.runs) == 2


@pytest.mark.parametrize("fault", [Fault(503), Fault(403, said="may not create runs")], ids=["away", "forbidden"])
def test_a_run_that_kfp_refuses_to_begin_ends_the_loop_with_a_sentence(
    kfp: Kfp, begun: str, relays: Callable[[str], str], fault: Fault
) -> None:
    kfp.fault("RunService_CreateRun", *[fault] * relaying.ATTEMPTS)
    with pytest.raises(UserError) as refused:
        relays(begun)
    assert str(refused.value).startswith(f"The rounds of run {begun} are done, but the run that is to continue it")
    assert str(refused.value).endswith(f"or continue with 'selfloop submit dice --from {LOOP}@champion'.")
    assert "\n" not in str(refused.value)
    assert list(kfp.runs) == [begun]


def test_what_the_next_run_continues_with_is_what_the_loop_was_left_with(
    dice: Recipe[Any], client: MlflowClient, tmp_path: Path
) -> None:
    """Also where somebody moved the champion while the last round was at work."""

    class Rollback(Silent):
        def stage_begins(self, round: int, stage: Stage) -> None:
            if (round, stage.name) == (2, "close_round"):
                registry = Registry(LOOP)
                registry.move(1, "rollback", "a whim", registry.settle())

    last = two_rounds(dice, tmp_path / "run", Rollback())
    left = left_by(LOOP, FIRST)
    assert left[:3] == (f"{LOOP}/1", 3, 3)
    carried = carried_from(dice, state_of(dice), left.origin, "addition")
    assert {name: each.metadata["digest"] for name, each in carried.items()} == {
        name: getattr(last, name).metadata["digest"] for name in carried
    }


@pytest.mark.usefixtures("two_done")
@pytest.mark.parametrize(
    ("verdict", "in_force", "origin"),
    [
        ("promoted", "3", "3"),
        ("rejected", "2", "2+3"),
        ("pending", "2", "2+3"),
        ("pending", "3", "3"),  # approved before the round had ended
        ("promoted", "2", "2"),  # undone before it had
    ],
)
def test_the_next_run_has_the_version_in_force_and_the_newest_state_of_it(
    verdict: str, in_force: str, origin: str
) -> None:
    Registry(LOOP).tag(3, {"verdict": verdict, "in_force": in_force})
    assert left_by(LOOP, FIRST).origin == f"{LOOP}/{origin}"


@pytest.mark.usefixtures("two_done")
def test_a_run_is_continued_by_one_run_with_what_is_left_to_do(resolves: Callable[..., Any]) -> None:
    """Whoever clones a continuation in KFP's UI is told so, and a task that is tried again is not."""
    for again in ("", "again"):
        settings = resolves("second", f"run:{FIRST}", again)
        assert (settings.origin, settings.first, settings.rounds, settings.last) == (f"{LOOP}/3", 3, 3, 5)
    with pytest.raises(UserError, match="Run first is continued by run second already: begin another run from NAME@"):
        resolves("third", f"run:{FIRST}")
    with pytest.raises(UserError, match=f"Run another left no round of loop '{LOOP}' to continue from"):
        resolves("third", "run:another")


def test_a_run_that_did_all_its_rounds_is_continued_by_none(
    dice: Recipe[Any], client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dice.resolve(ASKED, {"rounds": 1})
    monkeypatch.setenv("MLFLOW_RUN_ID", opened_run("loop", settings.overrides(), FIRST))
    run(dice, settings, tmp_path / "run")
    with pytest.raises(UserError, match="Run first did all rounds"):
        left_by(LOOP, FIRST)


def test_a_loop_that_outlasts_its_run_needs_a_registry(resolves: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match="5 rounds are more than the 2 of one run, and without a registry no run cont"):
        resolves("first", "start")


@pytest.fixture
def passes_on(
    kfp: Kfp, pod: Path, begun: str, two_done: None, relays: Callable[[str], str], resolves: Callable[..., Any]
) -> Callable[[], str]:
    """Begins the next run when the first one, which holds the Lease, has done its rounds; its id."""
    resolves(begun, "start")

    def end() -> str:
        relays(begun)
        (made,) = _others(kfp, begun)
        return made

    return end


def test_no_other_run_comes_between_two_that_follow_each_other(
    kfp: Kfp,
    kubernetes: KubernetesApi,
    begun: str,
    submitted: Callable[[], str],
    passes_on: Callable[[], str],
    resolves: Callable[..., Any],
) -> None:
    made = passes_on()
    kfp.end(begun, "SUCCEEDED")
    with pytest.raises(UserError, match=f"already run by {made}"):
        resolves(submitted(), "champion")
    resolves(made, f"run:{begun}")
    assert kubernetes.objects[LEASE]["spec"]["holderIdentity"] == made


def test_a_run_that_was_not_given_the_lease_takes_it_from_the_one_that_it_continues(
    kubernetes: KubernetesApi,
    begun: str,
    passes_on: Callable[[], str],
    resolves: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    kubernetes.denied.add(("update", "leases"))
    made = passes_on()
    assert f"Run {made} takes the Lease itself when it begins." in caplog.text
    kubernetes.denied.clear()
    resolves(made, f"run:{begun}")
    assert kubernetes.objects[LEASE]["spec"]["holderIdentity"] == made


def test_a_run_that_was_cancelled_is_continued_by_none(
    connected: Connection,
    begun: str,
    passes_on: Callable[[], str],
    resolves: Callable[..., Any],
) -> None:
    """Whether it was before the next one was begun, or after."""
    made = passes_on()
    runs.cancel(connected, begun)
    for again in (passes_on, partial(resolves, made, f"run:{begun}")):
        with pytest.raises(UserError, match=f"Run {begun} was cancelled: the loop ends with it"):
            again()


@pytest.mark.usefixtures("pod", "kubernetes", "client")
def test_a_run_that_could_not_be_continued_does_not_begin(kfp: Kfp, begun: str, resolves: Callable[..., Any]) -> None:
    resolves("not-yet-known-as-it-is-of-a-schedule", "start")
    kfp.token = "another"
    with pytest.raises(UserError, match="does not know who asks"):
        resolves(begun, "start")


def test_submit_begins_a_loop_that_is_longer_than_its_runs(command: Callable[..., Ended], kfp: Kfp) -> None:
    done = command("submit", str(DICE), "--rounds", "5", "--rounds-a-run", "2", "--fused")
    assert (done.code, done.err) == (0, "")
    (version,) = kfp.versions.values()
    spec = str(version["pipeline_spec"])
    assert "exec-relay" in spec
    assert "round 2 · round" in spec
    assert "round 3 · round" not in spec


def test_watch_follows_a_loop_from_run_to_run(
    command: Callable[..., Ended], kfp: Kfp, begun: str, relays: Callable[[str], str]
) -> None:
    relays(begun)
    (made,) = _others(kfp, begun)
    kfp.end(begun, "SUCCEEDED")
    kfp.end(made, "FAILED")
    done = command("watch", begun)
    assert f"Run {made} continues the loop: {kfp.url}/#/runs/details/{made}" in done.out
    assert done.code == 1
    assert f"Run {made} failed" in done.err


def _cancelled_ones_end(kfp: Kfp) -> list[Callable[[str], None]]:
    """What happens to runs that are looked at for a while: those that are being cancelled end."""

    def look(run_id: str) -> None:
        if kfp.runs[run_id]["state"] == "CANCELING":
            kfp.end(run_id, "FAILED")

    return [look] * 20


def _was_cancelled(kfp: Kfp, run_id: str) -> bool:
    return "CANCELING" in [each["state"] for each in kfp.runs[run_id].get("state_history", [])]


def test_cancel_ends_the_run_at_which_a_loop_is(
    command: Callable[..., Ended], kfp: Kfp, begun: str, relays: Callable[[str], str]
) -> None:
    relays(begun)
    (made,) = _others(kfp, begun)
    kfp.end(begun, "SUCCEEDED")
    kfp.looks = _cancelled_ones_end(kfp)
    done = command("cancel", begun)
    assert (done.code, done.out.splitlines()[0]) == (0, f"Run {made} is being cancelled.")
    assert [_was_cancelled(kfp, each) for each in (begun, made)] == [False, True]


def test_cancel_also_ends_what_was_begun_at_that_moment(
    command: Callable[..., Ended], kfp: Kfp, begun: str, relays: Callable[[str], str]
) -> None:
    relays(begun)
    (made,) = _others(kfp, begun)
    late = kfp.runs.pop(made)

    def look(run_id: str) -> None:
        """Nobody has begun it when it is first looked for."""

    kfp.looks = [look, lambda run_id: kfp.runs.update({made: late}), *_cancelled_ones_end(kfp)]
    assert command("cancel", begun).code == 0
    assert all(_was_cancelled(kfp, run_id) for run_id in kfp.runs)
