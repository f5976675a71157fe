"""What programs and policies wrote does no harm to a terminal, a page or a table."""

import logging
import sys
import unicodedata
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text
from selfloop.cli.app import PlainConsole, PlainFormatter, main
from selfloop.errors import UserError
from selfloop.texts import LONGEST_REASON, LONGEST_SENTENCE, LONGEST_WORD, plain, reason

HOSTILE = "a\x1b[2J\x1b]0;title\x07b\rc\x9bd\u202ee\u2028f\x00g|h`i<b>*[x](javascript:y)"
anything = st.text(max_size=60) | st.text(alphabet="a\x1b\n\r\x07\x9b\u202e|`<>[]()*_#\x00", max_size=60)


@given(anything)
def test_plain_text_steers_no_terminal_and_keeps_what_can_be_read(text: str) -> None:
    shown = plain(text)
    assert len(shown) == len(text)
    for was, now in zip(text, shown, strict=True):
        assert now in "\n\t" or unicodedata.category(now)[0] not in "CZ" or unicodedata.category(now) == "Zs"
        assert now == was or not was.isprintable()


@given(st.sampled_from(("x", "judge,", "word ", "\n", "{'a': ")), st.integers(0, 9999))
def test_a_mistake_is_said_in_bounded_length_however_much_was_typed(typed: str, times: int) -> None:
    sentence = f"There is no verifier '{typed * times}': known are exact and judge."
    said = str(UserError(sentence))
    assert len(said) <= LONGEST_SENTENCE
    assert all(len(word) <= LONGEST_WORD for word in said.split())
    assert said.startswith("There is no verifier")
    assert said.endswith("known are exact and judge.")
    assert said == sentence or len(sentence) > LONGEST_WORD


@given(anything)
def test_a_reason_is_short_and_of_words(text: str) -> None:
    said = reason(text)
    assert len(said) <= LONGEST_REASON
    assert said.isprintable()
    assert not set(said) & set("|`<>[]*#\\/&~!@\n\x1b")
    assert reason(said) == said


@pytest.mark.parametrize("known", ["wrong answer on test 12", "one seat's text", "unreadable (ValueError)", "größer"])
def test_a_reason_of_words_stays_as_it_is(known: str) -> None:
    assert reason(known) == known


def test_nothing_that_the_command_shows_steers_the_terminal() -> None:
    file = StringIO()
    console = PlainConsole(file=file, force_terminal=False, width=200)
    table = Table("x")
    table.add_row(Text(HOSTILE))
    for shown in (HOSTILE, Text(HOSTILE), table):
        console.print(shown, markup=False)
    assert "␛[2J" in file.getvalue()
    assert not set(file.getvalue()) & set("\x1b\x07\r\x9b\u202e\u2028\x00")


def test_neither_do_a_refusal_and_a_log(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def refuse(words: list[str]) -> None:
        logging.getLogger("selfloop.x").warning("%s", HOSTILE)
        raise UserError(HOSTILE)

    monkeypatch.setattr(sys.modules["selfloop.cli.app"], "_command", lambda: refuse)
    with pytest.raises(SystemExit):
        main()
    said = capfd.readouterr().err
    assert "␛[2J" in said
    assert not set(said) & set("\x1b\x07\r\x9b\u202e\u2028\x00")
    assert "\x1b" not in PlainFormatter("%(message)s").format(logging.makeLogRecord({"msg": HOSTILE}))
