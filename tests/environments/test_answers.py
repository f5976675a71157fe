from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from selfloop.answers import boxed, compared, final_answer, holds, number_of, same_mathematics, same_number, same_text
from selfloop.errors import UserError


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        (r"It is $\boxed{4}$.", "4"),
        (r"First \boxed{1}, then \boxed{2}", "2"),
        (r"\boxed{\frac{1}{\sqrt{2}}} of it", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{ 7 }", "7"),
        (r"\boxed{}", ""),
        (r"\boxed{1} and \boxed{2", None),
        ("\\boxed{1\\", None),
        ("4", None),
        ("", None),
    ],
)
def test_the_last_box_is_read_with_its_braces_balanced(text: str, inside: str | None) -> None:
    assert boxed(text) == inside


@given(st.text("{}\\boxed4 "))
def test_no_text_breaks_the_search_for_a_box(text: str) -> None:
    inside = boxed(text)
    assert inside is None or inside in text


def test_the_final_answer_is_boxed_or_behind_the_marks_or_everything() -> None:
    assert final_answer("#### 3 \\boxed{4}") == "4"
    assert final_answer("2+2\n#### 4\n") == "4"
    assert final_answer(" 4 ") == "4"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("72", 72),
        ("-3", -3),
        ("−3", -3),
        ("+3", 3),
        ("1,470", 1470),
        ("1{,}470", 1470),
        ("$1,234,567.50", Fraction("1234567.5")),
        (r"\$18", 18),
        (r"18 \text{ dollars}", 18),
        ("25%", 25),
        (r"25\%", 25),
        ("18.00", 18),
        ("18.", 18),
        (".5", Fraction(1, 2)),
        ("3/4", Fraction(3, 4)),
    ],
)
def test_numbers_are_read_exactly(text: str, number: Fraction | int) -> None:
    assert number_of(text) == number


@pytest.mark.parametrize(
    "text",
    ["", "seventy", "1,2", "12,34", "1/0", "1e9", "3 apples", "1.2.3", "--1", "٣", "9" * 5000, "nan", "inf", "."],
)
def test_what_is_no_number_is_none(text: str) -> None:
    assert number_of(text) is None


def test_a_number_is_right_where_it_is_the_final_answer() -> None:
    assert same_number("1,470", r"It takes \boxed{\$1470.00}") == (True, 1.0, "correct")
    assert same_number("72", "72") == (True, 1.0, "correct")
    assert same_number("72", r"\boxed{72.0000000001}") == (False, 0.0, "wrong answer")
    assert same_number("72", "The answer is 72, I think") == (False, 0.0, "no number as the final answer")


def test_an_answer_that_is_no_number_is_refused_where_numbers_are_compared() -> None:
    with pytest.raises(UserError, match="'north' is no number: choose another check"):
        same_number("north", "1")


@pytest.mark.parametrize(
    ("answer", "completion"),
    [
        (r"\frac{1}{2}", r"\boxed{0.5}"),
        (r"\frac{1}{2}", r"\boxed{\tfrac12}"),
        ("x(x+2)", r"\boxed{x^2+2x}"),
        (r"5\sqrt{2}", r"\boxed{\sqrt{50}}"),
        ("(-2, 2)", r"\boxed{(-2,2)}"),
        (r"90^\circ", r"\boxed{90}"),
        (r"\text{east}", r"\boxed{\text{east}}"),
        (r"9\pi", r"9\pi"),
    ],
)
def test_mathematics_is_right_however_it_is_written(answer: str, completion: str) -> None:
    assert same_mathematics(answer, completion) == (True, 1.0, "correct")


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        (r"\boxed{\frac{1}{3}}", "wrong answer"),
        (r"\boxed{}", "no final answer"),
        ("", "no final answer"),
        ("1" * 401, "no final answer"),
        (r"\boxed{\frac{}{}}", "wrong answer"),
        (r"\boxed{\frac{", "unreadable answer"),
        (r"#### 3} or \frac{1}{2", "unreadable answer"),
    ],
)
def test_other_mathematics_is_wrong(completion: str, reason: str) -> None:
    assert same_mathematics(r"\frac{1}{2}", completion) == (False, 0.0, reason)


def test_a_completion_is_never_run_as_python(tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("run") / "touched"
    for text in (f"open('{place}','w')", f"\\boxed{{open('{place}','w')}}", f"$open('{place}','w')$"):
        assert not same_mathematics("1", text).ok
    assert not place.exists()


def test_many_are_compared_at_once_and_one_that_hangs_costs_the_others_nothing() -> None:
    pairs = [(f"\\frac{{1}}{{{n}}}", f"\\boxed{{\\frac{{2}}{{{2 * n}}}}}") for n in range(1, 9)]
    pairs.insert(3, ("1", "\\boxed{9^{9^{9^9}}}"))
    reasons = [grade.reason for grade in compared(pairs)]
    assert reasons[:3] + reasons[4:] == ["correct"] * 8
    assert reasons[3] in ("timeout", "out of memory")


def test_text_is_compared_letter_by_letter_or_looked_for_as_words() -> None:
    assert same_text("Oslo", " Oslo\n").ok
    assert not same_text("Oslo", "oslo").ok
    assert holds("Oslo", "I say Oslo.").ok
    assert holds("(1)", "as in (1).").ok
    assert not holds("1", "21").ok
