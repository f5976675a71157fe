import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from selfloop.guards.contamination import clean, contaminated, hashes, held_out, listed, of_prompts
from selfloop.records import BATCH_ROWS, Example, Task

from ..conftest import sealed_table
from .conftest import Round, alarm, reading


def mask(examples: list[tuple[str, str]], items: list[tuple[str, str]], n: int = 13) -> list[bool]:
    def columns(rows: list[tuple[str, str]]) -> tuple[pa.Array, pa.Array]:
        return pa.array([row[0] for row in rows], pa.string()), pa.array([row[1] for row in rows], pa.string())

    return list(contaminated(*columns(examples), listed(*columns(items), n)).tolist())


def test_an_example_with_the_prompt_of_an_item_is_contaminated_whatever_its_completion() -> None:
    examples = [("1+1=", "3"), (" 1+1=\n", "2"), ("1+11=", "2"), ("", "1+1="), ("what  is\tit", "x")]
    assert mask(examples, [("1+1=", "2"), ("what is it", "y")]) == [True, True, False, False, True]


STORY = "the quick brown fox jumps over the lazy dog and then it runs back home to sleep"


@pytest.mark.parametrize(
    ("example", "expected"),
    [
        ((f"who knows: {STORY}", "nobody"), True),
        (("tell a story", STORY.replace(" ", "  ")), True),
        (("so " + " ".join(STORY.split()[:9]), " ".join(STORY.split()[9:13]) + " is all"), True),
        (("tell a story", " ".join(STORY.split()[:12])), False),
        (("tell a story", " ".join(reversed(STORY.split()))), False),
        (("tell a story", STORY.replace("over", "under").replace("sleep", "eat")), False),
    ],
)
def test_an_example_that_shares_thirteen_words_in_a_row_with_an_item_is_contaminated(
    example: tuple[str, str], expected: bool
) -> None:
    assert mask([("another", "one"), example, ("a third", "one")], [("say it", STORY), ("1+1=", "2")]) == [
        False,
        expected,
        False,
    ]


def test_words_in_a_row_do_not_run_over_from_one_example_into_the_next() -> None:
    words = STORY.split()
    examples = [("x " * 10, " ".join(words[:8])), (" ".join(words[8:]), "y " * 10)]
    assert mask(examples, [(STORY, "")]) == [False, False]


def test_the_wording_that_items_have_in_common_does_not_contaminate() -> None:
    ask = "Use every one of these numbers once to come as near as you can to the number {}. Think. The numbers are: {}"
    rng = np.random.default_rng(0)
    drawn = [(ask.format(rng.integers(1000), " ".join(map(str, rng.integers(100, size=13)))), "") for _ in range(300)]
    items, others = drawn[:5], drawn[5:]
    assert sum(mask(others, items)) == 0
    assert mask([(f"Again. {items[2][0]}", "9")], items) == [True]


words = st.lists(st.sampled_from("abcd"), max_size=8)
texts = st.tuples(words, words)


@example([(["a"], ["a", "a", "a"])], [([], list("aaaa")), ([], list("abba")), ([], list("abab"))], 4)
@given(st.lists(texts, min_size=1, max_size=6), st.lists(texts, min_size=1, max_size=4), st.integers(2, 4))
def test_the_mask_agrees_with_a_plain_reading(
    examples: list[tuple[list[str], list[str]]], items: list[tuple[list[str], list[str]]], n: int
) -> None:
    def grams(text: list[str], size: int) -> set[tuple[str, ...]]:
        return {tuple(text[at : at + size]) for at in range(len(text) - size + 1)}

    prompts, long = {" ".join(prompt) for prompt, _ in items}, {tuple(p + a) for p, a in items if len(p + a) >= n}

    def single(part: tuple[str, ...]) -> bool:
        return sum(part in grams(list(text), len(part)) for text in long) == 1

    half = n // 2
    telling = {gram for text in long for gram in grams(list(text), n) if single(gram[:half]) and single(gram[half:])}
    expected = [" ".join(p) in prompts or bool(grams(p + c, n) & telling) for p, c in examples]
    joined = [[(" ".join(a), " ".join(b)) for a, b in rows] for rows in (examples, items)]
    assert mask(joined[0], joined[1], n) == expected


@given(st.lists(st.integers(0, 5), max_size=12), st.integers(1, 4))
def test_equal_grams_and_no_others_have_equal_hashes(numbers: list[int], n: int) -> None:
    found = hashes(np.array(numbers, dtype=np.int64), n)
    grams = [tuple(numbers[at : at + n]) for at in range(max(len(numbers) - n + 1, 0))]
    assert len(found) == len(grams)
    assert len(set(found.tolist())) == len(set(grams))


def test_a_table_is_scanned_in_batches_and_without_items_nothing_is_contaminated(tmp_path: Path) -> None:
    rows = BATCH_ROWS + 1_000
    examples = sealed_table(tmp_path / "examples", Example, (Example("", 1, f"{n}=", "x", 1) for n in range(rows)))
    held = [5, BATCH_ROWS - 1, BATCH_ROWS, rows - 1]
    items = sealed_table(tmp_path / "items", Task, [Task(f"{n}", 1, "old", f"{n}=", "y") for n in held])
    assert clean(examples.path, held_out(items.path)).tolist() == [n for n in range(rows) if n not in held]
    none = sealed_table(tmp_path / "no items", Task, [])
    assert len(clean(examples.path, held_out(none.path))) == rows
    assert len(clean(sealed_table(tmp_path / "nothing", Example, []).path, held_out(items.path))) == 0


def test_prompts_are_counted_once_however_many_examples_they_have(tmp_path: Path) -> None:
    examples = [Example("", 1, prompt, answer, 1) for prompt in ("1+1=", "2+2=", "3+3=") for answer in "ab"]
    table = sealed_table(tmp_path / "examples", Example, examples)
    assert of_prompts(table.path, np.array([0, 2, 3, 4])) == {"newest": 3, "contaminated": 2}
    assert of_prompts(table.path, np.arange(6)) == {"newest": 3, "contaminated": 0}


def test_a_hundred_thousand_short_texts_cost_less_than_a_third_of_a_second() -> None:
    rng = np.random.default_rng(0)
    prompts = pa.array([f"{a}+{b}=" for a, b in rng.integers(10**12, size=(100_000, 2))])
    items = listed(prompts.slice(0, 500), prompts.slice(0, 500))
    seconds = []
    for _ in range(3):  # the machine is shared
        began = time.process_time()
        assert contaminated(prompts, prompts, items).sum() == 500
        seconds.append(time.process_time() - began)
    assert min(seconds) < 0.3


@pytest.mark.parametrize(("newest", "level"), [(0, "green"), (5, "green"), (20, "yellow"), (50, "red")])
def test_new_examples_that_are_held_out_items_trip(newest: int, level: str, evidence: Round) -> None:
    candidate = {
        "contaminated": {"newest": newest, "replay_pool": 7, "seed_data": 90},
        "examples": {"newest": 100, "replay_pool": 100, "seed_data": 100},
    }
    found = alarm("contamination", evidence(candidate=candidate))
    assert (found.value, found.level) == (newest / 100, level)
    few = candidate | {"prompts": {"newest": 4, "contaminated": 2}}
    assert alarm("contamination", evidence(candidate=few)).level == "green", "the examples of one prompt are one unit"
    assert f"{newest} of 100 newest, 7 of 100 replay pool, 90 of 100 seed data" in found.says


def test_without_new_examples_nothing_is_said_of_contamination(evidence: Round) -> None:
    counts = {"newest": 0, "replay_pool": 0, "seed_data": 0}
    assert reading("contamination", evidence(candidate={"contaminated": counts, "examples": counts})).value is None
    assert reading("contamination", evidence()).value is None
