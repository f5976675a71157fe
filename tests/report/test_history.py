"""A run's history: read as it was written, and what it shares with the one before it is on the disk once."""

from pathlib import Path
from typing import Any

from selfloop.report.history import MOMENTS, last_round, read_history, read_moments, write_history, write_moments
from selfloop.report.sections.time import began, times

ROUND = {"samples": "x" * 2000}


def a_history(rounds: int) -> dict[str, Any]:
    return {"title": "A loop", "stages": {}, "rounds": [{**ROUND, "round": number} for number in range(rounds)]}


def test_each_history_of_a_long_loop_is_whole_and_all_of_them_grow_as_the_rounds_do(tmp_path: Path) -> None:
    last = 8 * 8 * 8 + 3
    before = None
    for number in range(last + 1):
        place = tmp_path / str(number)
        write_history(place, a_history(number), before)
        before = place
        if number in (0, 1, 7, 8, 9, 63, 64, 65, 130, last):
            assert read_history(place)["rounds"] == a_history(number)["rounds"]
            assert number == 0 or last_round(place)["round"] == number - 1
    written = {path.stat().st_ino: path.stat().st_size for path in tmp_path.rglob("rounds-*")}
    assert sum(written.values()) < 4.2 * last * len(str(ROUND)), "each round is written once a power of eight"


def test_a_history_alone_is_that_of_a_chain(tmp_path: Path) -> None:
    for number in range(20):
        write_history(tmp_path / "chain" / str(number), a_history(number), tmp_path / "chain" / str(number - 1))
    write_history(tmp_path / "alone", a_history(19))
    chain, alone = (
        {path.name: path.read_bytes() for path in place.iterdir()}
        for place in (tmp_path / "chain" / "19", tmp_path / "alone")
    )
    assert chain == alone


def test_the_moments_of_old_rounds_are_kept_as_sums(tmp_path: Path) -> None:
    def moment(number: int) -> dict[str, Any]:
        stage = {"stage": f"stage-{number % 3}", "began": 100.0 + number, "seconds": 2.0, "peak_bytes": number}
        return {"round": number, "stages": [stage]}

    moments = [moment(number) for number in range(MOMENTS + 50)]
    (tmp_path / "history").mkdir()
    known: list[dict[str, Any]] = []
    for each in moments:
        write_moments(tmp_path / "history", [*known, each])
        known = read_moments(tmp_path / "history")
    assert [each["round"] for each in known] == [0, *range(50, MOMENTS + 50)]
    assert sorted(times(known)) == sorted(times(moments))
    assert began(known) == began(moments)
