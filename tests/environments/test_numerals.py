r"""Numbers as people write them: whatever one way of writing gives is read back, and two numbers are never one."""

from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from selfloop.numerals import number_of, numbers_in

Spelling = tuple[Fraction, str]
"""A number, and one way to write it."""

WHOLES = st.integers(0, 10**9)


def grouped(number: int, mark: str) -> str:
    return f"{number:,}".replace(",", mark)


@st.composite
def wholes(draw: st.DrawFn) -> Spelling:
    number = draw(WHOLES)
    marks = ("", ",", " ", "{,}", "\\,", "'", "\u202f", ",\\!")
    ways = [grouped(number, draw(st.sampled_from(marks))), f"{number}.", f"{number}.00"]
    ways.append(str(number).translate(str.maketrans("0123456789", draw(st.sampled_from(DIGITS)))))
    return Fraction(number), draw(st.sampled_from(ways))


DIGITS = ("０１２３４５６７８９", "𝟎𝟏𝟐𝟑𝟒𝟓𝟔𝟕𝟖𝟗", "٠١٢٣٤٥٦٧٨٩")


@st.composite
def decimals(draw: st.DrawFn) -> Spelling:
    whole, part = draw(st.integers(0, 10**6)), draw(st.from_regex(r"[0-9]{1,6}", fullmatch=True))
    before = grouped(whole, draw(st.sampled_from(("", ",")))) if whole or draw(st.booleans()) else ""
    return Fraction(f"{whole}.{part}"), f"{before}.{part}"


@st.composite
def fractions(draw: st.DrawFn) -> Spelling:
    above, below = draw(st.integers(0, 10**5)), draw(st.integers(1, 10**5))
    ways = ("{}/{}", "{} / {}", "{}⁄{}", r"\frac{{{}}}{{{}}}", r"\dfrac{{ {} }}{{{}}}", r"{{{} \over {}}}", "{}÷{}")
    return Fraction(above, below), draw(st.sampled_from(ways)).format(above, below)


@st.composite
def mixed(draw: st.DrawFn) -> Spelling:
    whole, below = draw(st.integers(1, 999)), draw(st.integers(2, 99))
    above = draw(st.integers(1, below - 1))
    ways = ["{0} {1}/{2}", r"{0}\frac{{{1}}}{{{2}}}", r"{0} \tfrac{{{1}}}{{{2}}}", r"{0}\,{1}/{2}"]
    return whole + Fraction(above, below), draw(st.sampled_from(ways)).format(whole, above, below)


VULGAR = {"½": Fraction(1, 2), "¾": Fraction(3, 4), "⅓": Fraction(1, 3), "⅞": Fraction(7, 8)}


@st.composite
def vulgar(draw: st.DrawFn) -> Spelling:
    whole, sign = draw(st.integers(0, 99)), draw(st.sampled_from(list(VULGAR)))
    return whole + VULGAR[sign], f"{whole or ''}{draw(st.sampled_from(('', ' ')))}{sign}"


@st.composite
def powers(draw: st.DrawFn) -> Spelling:
    base, exponent = draw(st.integers(1, 99)), draw(st.integers(0, 12))
    raised = str(exponent).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    way = draw(st.sampled_from(("^{0}", "^{{{0}}}", "**{0}", "{1}", "<sup>{0}</sup>"))).format(exponent, raised)
    times = draw(st.sampled_from(("", r"{} \times ", r"{}\cdot ", "{} × ", "{} x ", "{}*")))
    if not times:
        return Fraction(base) ** exponent, f"{base}{way}"
    return base * Fraction(10) ** exponent, f"{times.format(base)}10{way}"


@st.composite
def scientific(draw: st.DrawFn) -> Spelling:
    number = draw(st.decimals("0.001", "999", places=3))
    exponent = draw(st.integers(-20, 20))
    return Fraction(number) * Fraction(10) ** exponent, f"{number}{draw(st.sampled_from('eE'))}{exponent}"


NUMERALS = wholes() | decimals() | fractions() | mixed() | vulgar() | powers() | scientific()
AROUND = st.sampled_from(
    (
        *("{}", "$ {} $", r"\({}\)", r"\[{}\]", "({})", "{{{}}}", r"\left({}\right)", r"\text{{{}}}", r"\textbf{{{}}}"),
        *(r"\mathbf{{{}}}", r"{{\bf {}}}", r"\boxed{{{}}}", r"\textcolor{{red}}{{{}}}", r"\displaystyle {}", "**{}**"),
        *(
            "`{}`",
            '"{}"',
            "<b>{}</b>",
            "{}.",
            "x = {}",
            "x_1={}",
            "P(A) = {}",
            "9 + 9 = {}",
            "Answer: {}",
            r"\approx {}",
        ),
        *("The answer is {}.", r"\textbf{{(B)}}\ {}", r"\angle ABC = {}", r"Total: **{}**", r"\text{{Total}} = {}"),
    )
)
UNITS = st.sampled_from(
    (
        *("", "%", r"\%", " percent", "°", r"^\circ", r"^{\circ}", " cm", "cm", " km/h", " m/s^2", " m²", " apples"),
        *(
            r"\text{ dollars}",
            r"\,\text{cm}^2",
            r"\mathrm{~kg}",
            r"\frac{\text{m}}{\text{s}}",
            " cups of tea",
            " €",
            " square meters",
            r"\ \text{m}",
        ),
    )
)
MONEY = st.sampled_from(("", "", "$", r"\$", "€", "£", "US$ ", "USD "))
SIGNS = st.sampled_from(("", "", "-", "−", "- ", "+"))


@given(NUMERALS, AROUND, UNITS, MONEY, SIGNS)
def test_every_way_to_write_a_number_is_read_back(
    written: Spelling, around: str, unit: str, money: str, sign: str
) -> None:
    number, numeral = written
    assume(not ("$" in money and "$" in around) and not ("**" in numeral and "*" in around))
    text = around.format(f"{sign}{money}{numeral}{unit}")
    assert number_of(text) == (-number if sign[:1] in ("-", "−") else number), text


APART = st.sampled_from(
    (
        *(
            ", ",
            " ",
            "  ",
            "\n",
            "\t",
            " and ",
            " or ",
            "; ",
            ",",
            ":",
            " - ",
            "-",
            "–",
            " to ",
            "|",
            " + ",
            "&",
            " = ",
        ),
        *(
            r"\ ",
            r"\;",
            r"\,",
            r"\!",
            r"\quad ",
            "~",
            r"\text{ or }",
            r"\text{}",
            r"\left ",
            "{}",
            "$",
            "$ $",
            "**",
            "`",
        ),
        *(
            "</b>",
            r"\\",
            r"\text{,}",
            "\u2009",
            "\u00a0",
            r"\pm ",
            "^{}",
            r"\displaystyle ",
            " x ",
            r"\times ",
            "_",
            "'",
        ),
    )
)


@given(st.integers(0, 10**6), APART, st.integers(0, 10**6), AROUND)
def test_two_numbers_are_never_one(first: int, apart: str, second: int, around: str) -> None:
    assume(not (0 < first < 1000 and 100 <= second < 1000))  # that may be marks of thousands
    assume(not (around.startswith("9 + 9") and apart == " = "))
    assume(not (apart.strip() in ("^", "**") and min(first, second) < 2))  # a power that is its base, or 1
    found = number_of(around.format(f"{first}{apart}{second}"))
    assert found is None or found not in (first, second, int(f"{first}{second}"), Fraction(f"{first}.{second}"))


@given(NUMERALS, st.sampled_from((" ", ", ", r"\ ", " and ")), NUMERALS)
def test_numbers_in_any_form_beside_each_other_are_none(first: Spelling, apart: str, second: Spelling) -> None:
    (one, left), (other, right) = first, second
    may_be_mixed = one.denominator == 1 and 0 <= other < 1 and apart != ", "
    may_be_grouped = one.denominator == 1 and one > 0 and right[:3].isdigit() and apart.strip() != "and"
    assume(not may_be_mixed and not may_be_grouped)
    assert number_of(f"{left}{apart}{right}") is None


@given(st.text("0123456789 ,.{}\\;!textfrac$*^/½²①-=()e'", max_size=40))
def test_whatever_is_written_is_a_number_or_none(text: str) -> None:
    found = number_of(text)
    assert found is None or any(map(str.isnumeric, text))


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "seventy",
            "1,2",
            "12,34",
            "1/0",
            "1.2.3",
            "--1",
            "9" * 5000,
            "nan",
            "inf",
            ".",
            "3 7/2",
            "2^3^2",
            "9^9999",
        ),
        *("12:30", "5/6/2020", "3 hours 20 minutes", "(1,2)", "{1,2}", r"\pm 5", "≥ 18", "> 18", "not 18", "about 18"),
        *(
            "5x",
            "5k",
            "5M",
            r"5\pi",
            "5 sqrt",
            "5!",
            "5*x",
            "5/x",
            "101_2",
            r"0.\overline{3}",
            "3.33...",
            "3i",
            "2x = 18",
        ),
        *(
            "18/",
            "3 sixteenths",
            "3 quadrillionths",
            "3万",
            "3万人民币",
            "3半",
            "3 mil",
            "3 Millionen",
            "3 p",
            "1\u20638",
        ),
        *("3 dozen", "5 and a half", "5 minus two", "The answer is 72, I think", "18. I think so", "x=3, y=4", "①②"),
        *(
            "the answer is not: 18",
            "5 = 10",
            "50 % = 0.5",
            r"\frac{1}{2}3",
            "½2",
            "10⁶5",
            r"1\text{8}",
            "1**2**3",
            "$5 $10",
        ),
    ],
)
def test_what_says_no_number_or_several_or_one_in_two_ways_is_none(text: str) -> None:
    assert number_of(text) is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1 450", 1450),
        ("1,00,000", 100_000),
        ("3 million", 3_000_000),
        ("$2.5 billion dollars", 2_500_000_000),
        ("¹⁄₂", Fraction(1, 2)),
        ("18㎡", 18),
        ("1st", 1),
        (r"{1 \over 2}", Fraction(1, 2)),
        ("25%", 25),
        ("A. 18", 18),
        ("9*2 = 18", 18),
        ("1.234.567,8", Fraction("1234567.8")),
        ("x is minus 5", -5),
        ("1\u200b8\u200e", 18),
        ("3 lakh", 300_000),
        ("18元", 18),
        ("18千米", 18),
        ("18 км/ч", 18),
        ("18 p.m.", 18),
        ("18 miles a day", 18),
        (r"18\,\mu\text{m}", 18),
        (r"18\ \Omega", 18),
        (r"\pi \approx 3.14", Fraction("3.14")),
        (r"18\,\frac{\mathrm{m}}{\mathrm{s}^2}", 18),
    ],
)
def test_other_ways_are_read(text: str, number: Fraction | int) -> None:
    assert number_of(text) == number


def test_the_numbers_in_a_text_are_whole_numbers_of_it() -> None:
    text = "It is 14.4 and -4, at 12:30, or 5,000; 3,4 x4 4x 4.5x 1 450. 4th (7) =8 3-9 $6 4^2 1/4 −3."
    assert [str(number) for number in numbers_in(text)] == [
        *("72/5", "-4", "5000", "3", "4", "1450", "7", "8", "3", "9", "6", "16", "1/4", "-3"),
    ]  # fmt: skip


@given(st.text("0123456789,. :/^-", max_size=3000))
def test_any_text_is_looked_through_for_numbers(text: str) -> None:
    assert all(number is not None for number in numbers_in(text))
