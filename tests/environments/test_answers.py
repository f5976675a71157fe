import pytest
from hypothesis import given
from hypothesis import strategies as st
from selfloop.answers import (
    CHECKS,
    agreeing,
    boxed,
    compared,
    final_answer,
    holds,
    same_mathematics,
    same_number,
    same_text,
    settled,
    stated,
)
from selfloop.errors import UserError


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        (r"It is $\boxed{4}$.", "4"),
        (r"First \boxed{1}, then \boxed{2}", "2"),
        (r"\boxed{\frac{1}{\sqrt{2}}} of it", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{ 7 }", "7"),
        (r"\boxed {7}, or \fbox{8}", "8"),
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
    assert final_answer("2+2\n#### **4**\n\nLet me know if you need more help!") == "**4**"
    assert final_answer("####\n\n4\nSo it is.") == "4"
    assert final_answer(" 4 ") == "4"


def test_a_number_is_right_where_it_is_the_final_answer() -> None:
    assert same_number("1,470", r"It takes \boxed{\$1470.00}") == (True, 1.0, "correct")
    assert same_number("72", "72") == (True, 1.0, "correct")
    assert same_number("18", "9 + 9 = 18\n#### 18\n\nLet me know if you need more help!").ok
    assert same_number("3.5", r"\boxed{3\frac{1}{2}\text{ hours}}").ok
    assert same_number("1020", r"\boxed{10 20}") == (False, 0.0, "no number as the final answer")
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
        (r"\$32", r"so \boxed{32}"),
        (r"\$5{,}000", r"so \boxed{5000}"),
        (r"\$6.50", r"\boxed{\$6.50}"),
        ("18", r"so \boxed{9}. Wait, no: so \boxed{18}"),
        (r"\frac{1}{2}", "so it is 0.5"),
        (r"\frac{1}{2}", r"The answer is $\frac{2}{4}$."),
        (r"\frac{1}{3}", r"\boxed{0.333333}"),
        (r"5\sqrt{2}", r"\boxed{5\sqrt{2}\text{ cm}}"),
        ("9", r"\boxed{9\%}"),
        (r"9\%", r"\boxed{0.09}"),
        (r"\frac{1}{2^{99}}", r"\boxed{2^{-99}}"),
        ("0", r"\boxed{\sin(\pi)}"),
        (r"\frac{1}{6}", r"\boxed{0.1\overline{6}}"),
        (r"-0.\overline{3}", r"\boxed{-\frac13}"),
        (r"(-\infty,1]", r"\boxed{x\le 1}"),
        ("[1,2)", r"\boxed{1\le x<2}"),
        (r"\{1,2\}", r"\boxed{\lbrace 2,1\rbrace}"),
        (r"\pm 1", r"\boxed{\{-1,1\}}"),
        ("(x,y)=(1,2)", r"\boxed{(1,2)}"),
        ("(2,100)", r"\boxed{(2, 100)}"),
        ("1101_2", r"\boxed{1101_{\text{two}}}"),
        ("xyz", r"\boxed{zyx}"),
        ("east", r"\boxed{\text{East}}"),
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
        (f"\\boxed{{{'1' * 401}}}", "no final answer"),
        (r"\boxed{\frac{", "unreadable answer"),
        (r"\boxed{\frac{}{}}", "wrong answer"),
        (r"#### 3} or \frac{1}{2", "unreadable answer"),
    ],
)
def test_other_mathematics_is_wrong(completion: str, reason: str) -> None:
    assert same_mathematics(r"\frac{1}{2}", completion) == (False, 0.0, reason)


TINY = (r"\frac{1}{2^{99}}", r"\frac{1}{2^{98}}"), (r"\frac{1}{2004!}", r"\frac{1}{2006!}"), ("10^{-9}", "10^{-8}")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        *TINY,
        ("0.0000001", "0.0000002"),
        ("0", r"\frac{1}{10^{20}}"),
        (r"\frac{\sqrt{2}}{10^{20}}", r"\frac{\sqrt{3}}{10^{20}}"),
        ("10^{20}", "10^{20}+1"),
        (r"\{0, \frac{1}{2^{99}}\}", r"\{0, \frac{1}{2^{98}}\}"),
        (r"[0, \frac{\pi}{2^{99}}]", r"[0, \frac{\pi}{2^{98}}]"),
        ("1020", "10 20"),
        ("5", "5t"),
        ("(1,2)", r"\{1,2\}"),
        (r"\{1,2,3\}", r"\left(1,2,3\right)"),
        (r"x\in\{1,2\}", r"x \in (1,2)"),
        ("(-1,1)", r"\pm 1"),
        ("(1,2)", "[1,2]"),
        ("[1,2]", "1<x<2"),
        ("(2,100)", "2100"),
        ("1101", "1101_2"),
        ("1101_2", "1101_3"),
        ("east", "seat"),
        (r"\text{listen}", "silent"),
    ],
)
def test_different_values_are_never_equal_however_small_they_are(answer: str, said: str) -> None:
    assert same_mathematics(answer, f"\\boxed{{{said}}}") == (False, 0.0, "wrong answer")


@given(st.fractions(), st.fractions())
def test_plain_numbers_are_compared_exactly_and_without_asking_anybody(first: object, other: object) -> None:
    said = settled(str(first), f"\\boxed{{{other}}}")
    assert said == "right" if first == other else said in ("wrong answer", None)


def test_a_task_whose_own_answer_cannot_be_read_says_so() -> None:
    assert same_mathematics("", "3") == (False, 0.0, "the task's answer cannot be read")


# Votes

SPELLINGS = {
    "math": [
        [r"\frac{1}{2}", "1/2", "0.5", r"\frac12", r"\dfrac{1}{2}", ".50", "½", r"\text{1/2}"],
        ["x^2+1", "x^2 + 1", "1+x^2", "x^{2}+1"],
        [r"5\sqrt{2}", r"\sqrt{50}"],
    ],
    "number": [["1470", "1,470", "1470.00", r"\$1,470", "1470 apples", r"\text{1470}"], ["-2.5", "-2 1/2", "−5/2"]],
}


@pytest.mark.parametrize("check", SPELLINGS)
def test_what_a_check_holds_equal_is_one_answer_in_a_vote(check: str) -> None:
    for same in SPELLINGS[check]:
        said = [stated(f"So \\boxed{{{each}}}.", check) for each in same]
        assert all(said)
        assert all(CHECKS[check](same[0], f"\\boxed{{{each}}}").ok for each in same)
        assert all(agreeing([(said[0], other) for other in said] + [(same[0], other) for other in said], check))
    different = [stated(f"\\boxed{{{same[0]}}}", check) for same in SPELLINGS[check]]
    assert not any(agreeing([(different[0], other) for other in different[1:]], check))


@pytest.mark.parametrize("check", ["number", "math"])
@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        r"so \boxed{}",
        r"\boxed{ }",
        "I do not know.",
        r"\boxed{?}",
        r"\boxed{...}",
        "#### ",
        r"\boxed{\text{None}}",
    ],
)
def test_what_gives_no_answer_has_no_vote(text: str, check: str) -> None:
    assert stated(text, check) == ""


def test_an_answer_in_a_sentence_has_a_vote_where_it_can_only_be_one_number() -> None:
    assert stated("The answer is 72.", "number") == stated("The answer is 72.", "math") == "72"
    assert stated("It is 72 or 73.", "number") == ""
    assert stated("many", "number") == ""
    assert stated(r"\boxed{\text{east}}", "math") == r"\text{east}"
    assert stated(" Oslo\n", "exact") == "Oslo"


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


@pytest.mark.parametrize(
    ("answer", "completion", "is_there"),
    [
        ("4", "It is 14.4", False),
        ("4", "It is -4", False),
        ("-4", "It is −4.", True),
        ("12", "At 12:30", False),
        ("5", "It costs 5,000", False),
        ("5000", "It costs 5,000.", True),
        ("450", "It costs 1 450", False),
        ("4", "It is 4.", True),
        ("4", "One of 3,4 and 5", True),
        ("4", "It is 1/4", False),
        ("4", "2^4", False),
        ("42", "So 42, as said", True),
        ("5 km", "It is 1.5 km", False),
        ("5 km", "It is 5 km.", True),
        ("5 km", "It is 5 miles", False),
        ("version 1", "version 1.2", False),
        ("version 1", "version 1.", True),
        ("1.2.3", "version 1.2.3", True),
        ("C++", "in C++, so", True),
        ("4", r"It is \frac{4}{5}", False),
        ("0.8", r"It is \frac{4}{5}", True),
        ("4", r"\sqrt{4}", False),
        ("4", "x_{4}^{4}", False),
        ("4", "4 million, or 4 × 10^3, or 4e3", False),
        ("4000", r"4\times10^{3}", True),
        ("4", "on 2024-04-04", False),
        ("4.5", "It is 4 1/2", True),
        ("New York", "in New\nYork.", True),
        ("Zürich", "in Zu\u0308rich.", True),
        ("東京", "それは東京です。", True),
    ],
)
def test_a_number_is_looked_for_among_the_numbers_of_a_text(answer: str, completion: str, is_there: bool) -> None:
    assert holds(answer, completion).ok is is_there
