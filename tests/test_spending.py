"""The error budget of a loop: what each look may spend, for every course that looks can take."""

from functools import partial
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from selfloop.errors import UserError
from selfloop.paired import e_value, shortfall
from selfloop.promote.spending import FREE, Even, Harmonic, Investing, Ledger, Look, Looked, Spend

ALPHA = 0.05
SPELT = ["harmonic", "even,looks=7", "investing", "investing,stake=1", "betting", "betting,stake=1"]
CHARGED = SPELT[:4]
evidence = st.tuples(st.floats(0, 1), st.floats(0, 1e6))


def spent_on(spend: Spend, courses: list[tuple[float, float]]) -> list[Look]:
    """The looks of a course: a p-value and an e-value for each."""
    ledger, looks = Ledger(), []
    for p_value, e in courses:
        looks.append(spend.look(ledger, ALPHA, Looked(p_value, partial(float, e))))
        ledger = looks[-1].after
    return looks


@pytest.mark.parametrize("spelt", SPELT)
@given(st.lists(evidence, max_size=60))
def test_a_budget_is_never_exceeded_and_never_refunded(spelt: str, course: list[tuple[float, float]]) -> None:
    spend, before = Spend.parse(spelt), Ledger()
    for number, look in enumerate(spent_on(spend, course), 1):
        assert look.after.looks == number
        assert before.spent <= look.after.spent <= spend.left(look.after, ALPHA) + look.after.spent + 1e-12
        assert look.after.confirmed == before.confirmed + look.confirmed
        if look.confirmed:
            assert look.after.spent == before.spent, "a look that confirms costs nothing"
        before = look.after
    if spelt.startswith("investing"):
        assert before.spent <= ALPHA * max(before.confirmed, 1) + 1e-12
    else:
        assert before.spent <= ALPHA + 1e-12


@pytest.mark.parametrize("spelt", CHARGED)
@given(st.lists(st.floats(0, 1), max_size=60))
def test_a_look_confirms_where_its_p_value_is_at_most_the_level_and_costs_where_it_is_above_a_half(
    spelt: str, p_values: list[float]
) -> None:
    before = Ledger()
    for look in spent_on(Spend.parse(spelt), [(p, 0.0) for p in p_values]):
        assert look.confirmed is (look.level > 0 and look.value <= look.level)
        assert look.level <= FREE
        charge = look.after.spent - before.spent
        assert charge * (1 - FREE) == pytest.approx(look.level if look.value > FREE else 0, abs=1e-15)
        before = look.after


@pytest.mark.parametrize("spelt", CHARGED)
def test_a_loop_that_learns_nothing_hardly_ever_confirms_anything(spelt: str) -> None:
    """P-values that are uniform: of 2,000 loops of 60 looks 5 % may confirm; 6.3 % would be 2.7 deviations more."""
    spend, random = Spend.parse(spelt), Random(7)
    loops = ([(random.random(), 0.0) for _ in range(60)] for _ in range(2000))
    assert sum(any(look.confirmed for look in spent_on(spend, each)) for each in loops) / 2000 <= 0.063


def test_levels_that_confirm_nothing_come_to_the_budget() -> None:
    looks = spent_on(Harmonic(), [(1.0, 0.0)] * 3)
    assert [look.level / ALPHA for look in looks] == pytest.approx([1 / 4, 1 / 12, 1 / 24])
    assert looks[-1].after.spent == pytest.approx(ALPHA * 3 / 4)
    even = spent_on(Even(looks=4), [(1.0, 0.0)] * 6)
    assert [look.level for look in even] == pytest.approx([ALPHA / 8] * 4 + [0, 0], abs=1e-12)
    assert even[-1].after.spent == pytest.approx(ALPHA)


def test_a_look_that_is_free_leaves_its_level_to_the_next() -> None:
    looks = spent_on(Harmonic(), [(0.0, 0.0), (0.4, 0.0), (1.0, 0.0), (1.0, 0.0)])
    assert [look.level / ALPHA for look in looks] == pytest.approx([1 / 4, 1 / 4, 1 / 4, 1 / 12])
    assert [look.confirmed for look in looks] == [True, False, False, False]


def test_an_investment_grows_with_what_is_confirmed_but_for_the_first() -> None:
    looks = spent_on(Investing(), [(1.0, 0.0), (0.0, 0.0), (0.0, 0.0), (1.0, 0.0)])
    assert [look.level / ALPHA for look in looks] == pytest.approx([1 / 4, 1 / 8, 1 / 8, 3 / 8])


def test_a_bet_confirms_where_the_wealth_comes_to_one_over_alpha_and_never_carries_a_gain() -> None:
    spend = Spend.parse("betting,stake=0.5")
    near, lost, enough = spent_on(spend, [(1, 38.0), (1, 0.0), (1, 79.01)])
    assert (near.confirmed, near.after.spent) == (False, 0.0), "19.5 is not 20, and no other candidate has it"
    assert lost.after.spent == pytest.approx(ALPHA / 2)
    assert (enough.confirmed, enough.after.spent) == (True, lost.after.spent)
    assert enough.level == pytest.approx(1 / 79)


@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0]), min_size=1, max_size=40), st.sampled_from([0.0, 0.1]))
def test_more_gain_is_a_higher_e_value_and_a_lower_p_value(differences: list[float], margin: float) -> None:
    better = [min(each + 0.5, 1.0) for each in differences]
    assert e_value(better, margin) >= e_value(differences, margin) * (1 - 1e-9)
    assert shortfall(better, margin, 999) <= shortfall(differences, margin, 999) + 0.05


def test_a_bet_on_fair_coins_brings_nothing_on_average() -> None:
    """Over all outcomes of eight items that are as likely won as lost."""
    values = [e_value([1.0 if outcome >> item & 1 else -1.0 for item in range(8)]) for outcome in range(256)]
    assert sum(values) / 256 == pytest.approx(1)


def test_shares_of_ones_own_are_a_function_of_the_look_and_cannot_exceed_the_budget(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pathlib import Path

    place = Path(str(tmp_path))
    (place / "our_shares.py").write_text("def greedy(look, *, share: float = 0.7):\n    return share\n")
    monkeypatch.syspath_prepend(place)
    looks = spent_on(Spend.parse("our_shares:greedy"), [(1.0, 0.0)] * 3)
    assert [look.level / ALPHA for look in looks] == pytest.approx([0.35, 0.15, 0], abs=1e-9)
    with pytest.raises(UserError, match="There is no spending 'evn': did you mean 'even'"):
        Spend.parse("evn")
