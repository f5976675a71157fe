"""Loops that run again and again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from selfloop import pipelines
from selfloop.cluster import schedules
from selfloop.cluster.uploads import Package
from selfloop.errors import UserError
from selfloop.pipelines import Pipeline
from selfloop.profiles import find_profile
from selfloop.recipe import Recipe

from .conftest import Ended
from .kfp_server import Fault, Kfp

pytestmark = pytest.mark.slow

Command = Callable[..., Ended]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, package: Package) -> None:
    """Instead of a recipe's pipeline the small one, whose form has an origin."""

    @contextmanager
    def packaged(recipe: Recipe[Any], *_: Any, **__: Any) -> Iterator[tuple[Pipeline, Package]]:
        settings = recipe.resolve()
        yield Pipeline(package.file, recipe, settings, find_profile("cpu"), settings.rounds), package

    monkeypatch.setattr(pipelines, "packaged", packaged)


def test_a_recipe_is_scheduled_by_cron_from_its_champion(command: Command, kfp: Kfp) -> None:
    done = command("schedule", "length-generalization", "--cron", "0 2 * * *", "--seed", "4", "--name", "nightly")
    assert (done.code, done.err) == (0, "")
    assert "Schedule 'nightly' of small" in done.out
    (made,) = kfp.recurring.values()
    assert made["trigger"] == {"cron_schedule": {"cron": "0 0 2 * * *"}}
    assert made["runtime_config"]["parameters"] == {"seed": 4, "origin": "champion"}
    assert (made["no_catchup"], made["max_concurrency"], made["mode"]) == (True, "1", "ENABLE")
    assert made["service_account"] == "selfloop"
    assert made["experiment_id"] in kfp.experiments


def test_a_recipe_is_scheduled_by_an_interval(command: Command, kfp: Kfp) -> None:
    assert command("schedule", "length-generalization", "--every", "6h").code == 0
    (made,) = kfp.recurring.values()
    assert made["trigger"] == {"periodic_schedule": {"interval_second": "21600"}}
    assert made["display_name"] == "length-generalization-addition"


def test_a_schedule_is_made_once_where_the_connection_drops(command: Command, kfp: Kfp) -> None:
    kfp.fault("RecurringRunService_CreateRecurringRun", Fault(drops="after"), Fault(drops="after"))
    assert command("schedule", "length-generalization", "--every", "1d").code == 0
    assert len(kfp.recurring) == 1


def test_two_schedules_do_not_share_a_name(command: Command, kfp: Kfp) -> None:
    command("schedule", "length-generalization", "--every", "1d")
    done = command("schedule", "length-generalization", "--every", "2d")
    assert done.code == 1
    assert "There is a schedule 'length-generalization-addition' already: give another --name" in done.err
    assert len(kfp.recurring) == 1


def test_schedules_are_listed_with_their_last_run_and_the_next(
    command: Command, kfp: Kfp, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Clock":
            return cls(2026, 11, 21, 12, tzinfo=UTC)

    monkeypatch.setattr(schedules, "datetime", Clock)
    monkeypatch.setenv("COLUMNS", "80")
    command("schedule", "length-generalization", "--cron", "30 2 * * 1-5", "--name", "nightly")
    command("schedule", "length-generalization", "--every", "6h", "--name", "often")
    command("schedule", "length-generalization", "--every", "90m", "--name", "paused")
    kfp.on_create_recurring_run({}, next(iter(kfp.recurring.values())) | {"display_name": "x", "description": "other"})
    often = next(key for key, one in kfp.recurring.items() if one["display_name"] == "often")
    for hour, state in ((4, "SUCCEEDED"), (10, "RUNNING")):
        run = {"display_name": "r", "recurring_run_id": often, "experiment_id": kfp.recurring[often]["experiment_id"]}
        kfp._keep(kfp.runs, "run_id", run | {"state": state, "scheduled_at": f"2026-11-21T{hour:02}:00:00Z"})
    assert command("unschedule", "paused", "--pause").code == 0
    kfp.page = 2
    lines = command("schedules").out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["name", "nightly", "often", "paused"]
    assert lines[1].split() == ["nightly", "small", "30", "2", "*", "*", "1-5", "Nov", "23", "02:30"]
    assert "every 6h" in lines[2]
    assert "Nov 21 16:00  Nov 21 10:00  running" in lines[2]
    assert "every 90m" in lines[3]
    assert "paused" in lines[3].removeprefix("paused")


def test_nothing_scheduled_is_said(command: Command) -> None:
    assert command("schedules").out == "Nothing is scheduled in namespace 'selfloop'.\n"


def test_a_schedule_whose_pipeline_was_deleted_is_listed(command: Command, kfp: Kfp) -> None:
    command("schedule", "length-generalization", "--every", "1d")
    kfp.pipelines.clear()
    assert "(deleted)" in command("schedules").out


def test_a_schedule_is_paused_resumed_and_ended(command: Command, kfp: Kfp) -> None:
    command("schedule", "length-generalization", "--every", "1d", "--name", "daily")
    (made,) = kfp.recurring.values()
    assert command("unschedule", "daily", "--pause").out == "Schedule 'daily' is paused.\n"
    assert made["status"] == "DISABLED"
    assert command("unschedule", "daily", "--resume").code == 0
    assert made["status"] == "ENABLED"
    kfp.fault("RecurringRunService_DeleteRecurringRun", Fault(drops="after"))
    assert command("unschedule", "daily").out == "Schedule 'daily' is ended; its runs stay.\n"
    assert not kfp.recurring


def test_of_two_schedules_of_a_name_the_id_is_asked_for(command: Command, kfp: Kfp) -> None:
    for name in ("one", "two"):
        command("schedule", "length-generalization", "--every", "1d", "--name", name)
    for one in kfp.recurring.values():
        one["display_name"] = "same"
    assert "give one of the ids" in command("unschedule", "same").err
    assert command("unschedule", next(iter(kfp.recurring))).code == 0
    assert len(kfp.recurring) == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["unschedule", "nightli"], "There is no schedule 'nightli': did you mean 'nightly'?"),
        (["unschedule", "nightly", "--pause", "--resume"], "not both"),
        (["schedule", "length-generalization"], "needs either --cron, such as '0 2 * * *', or --every"),
        (["schedule", "length-generalization", "--cron", "0 2 * *"], "--cron '0 2 * *' cannot be read"),
        (["schedule", "length-generalization", "--every", "soon"], "--every 'soon' is no interval"),
        (["schedule", "length-generalization", "--every", "1h", "--cron", "0 2 * * *"], "needs either"),
    ],
)
def test_a_mistake_gets_one_sentence(command: Command, kfp: Kfp, words: list[str], sentence: str) -> None:
    command("schedule", "length-generalization", "--every", "1d", "--name", "nightly")
    done = command(*words)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert sentence in done.err
    assert len(kfp.recurring) == 1


def test_where_nothing_is_scheduled_the_namespace_is_doubted(command: Command) -> None:
    assert "There is no schedule 'x', nor any other, in 'selfloop': correct" in command("unschedule", "x").err


@pytest.mark.parametrize(
    ("given", "six"),
    [
        ("0 2 * * *", "0 0 2 * * *"),
        ("*/15 * * * mon-fri", "0 */15 * * * MON-FRI"),
        ("0 0 1 jul *", "0 0 0 1 JUL *"),
        ("30 0 2 * * *", "30 0 2 * * *"),
        ("17 2 7 7 *", "0 17 2 7 7 *"),
        ("0 2 * * WED", "0 0 2 * * WED"),
    ],
)
def test_a_cron_has_six_fields_for_kfp(given: str, six: str) -> None:
    assert schedules.in_six_fields(given) == six


@pytest.mark.parametrize(
    "given",
    [
        "",
        "hourly",
        "@daily",
        "61 * * * *",
        "0 2 * * 7",
        "0 2 * * 5-7",
        "0 2 L * *",
        "0 2 * * 5#2",
        "0 2 * * 5L",
        "0 2 30 2 *",
    ],
)
def test_a_cron_that_kfp_would_not_take_is_refused(given: str) -> None:
    with pytest.raises(UserError, match=r"^--cron '.*' (cannot be read \(.*\): give five fields|names no moment)"):
        schedules.in_six_fields(given)


@pytest.mark.parametrize(("given", "value"), [("30m", 1800), ("6h", 21600), ("1d", 86400), (" 2 h ", 7200)])
def test_an_interval_is_a_number_with_a_unit(given: str, value: int) -> None:
    assert schedules.seconds(given) == value
