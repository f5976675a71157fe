"""The report's sections: which are shown, in which order, and one of a user's own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from selfloop.errors import UserError
from selfloop.report import ReportParams
from selfloop.report.render import render
from selfloop.report.sections import SECTIONS, Section

from .test_render import Tags, a_history, a_round

OWN = '''
from markupsafe import Markup


def kept_in_all(run, *, word: str = "examples"):
    """How much was kept in all."""
    return f"{sum(sum(each['kept'].values()) for each in run.rounds)} <{word}>"


def table(run):
    return Markup("<p>so it <b>is</b></p>")


def silent(run):
    return ""
'''


@pytest.fixture(autouse=True)
def _own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "our_sections.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("our_sections", None)


def headings(page: str) -> list[str]:
    return re.findall(r'<h2 id="(\w+)">', page)


def shown(sections: str) -> str:
    told = [str(each) for each in ReportParams(sections=sections).sections]
    return render(a_history(a_round(1), a_round(2)) | {"sections": told}, [])


def test_every_section_that_comes_with_selfloop_is_in_the_list() -> None:
    assert sorted(SECTIONS) == list(Section.members())
    assert [str(each) for each in ReportParams().sections] == SECTIONS


def test_a_report_has_the_sections_that_are_asked_for_in_their_order() -> None:
    page = shown("samples+gate+roles")
    assert headings(page) == ["samples", "gate"], "one policy has no lanes"
    assert re.findall(r'<a href="#(\w+)">', page) == ["samples", "gate"]


def test_a_section_of_ones_own_is_escaped_unless_it_is_markup() -> None:
    page = shown("our_sections:kept_in_all,word=b+our_sections:table+our_sections:silent+time")
    assert headings(page) == ["kept_in_all", "table", "time"]
    assert ">Kept in all</h2>" in page
    assert "&lt;b&gt;" in page
    assert "<p>so it <b>is</b></p>" in page
    assert Tags(page).open == []


@pytest.mark.parametrize(
    ("sections", "said"),
    [("sampels", "did you mean 'samples'?"), ("samples,task=3", "did you mean 'tasks'?"), ("precision", "There is no")],
)
def test_what_is_no_section_is_refused_before_anything_starts(sections: str, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        ReportParams(sections=sections)


def test_naming_sections_needs_no_library_of_templates() -> None:
    code = (
        "import sys; from selfloop.report.sections import Section; Section.members(); "
        "print({'jinja2', 'markupsafe', 'pyarrow'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"
