"""The documentation as a site: it is built, every link of it leads somewhere, and what there is has a place in it."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from selfloop.recipe import recipes
from selfloop.stages import stages
from selfloop.strategies import kinds

from . import forked

pytestmark = pytest.mark.slow

HERE = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("site")
    words = ("-m", "mkdocs", "build", "--strict", "--site-dir", str(place))
    done = forked.run(*words, cwd=HERE, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    yield place
    sys.stdout.write(done.stderr)


def page(site: Path, name: str) -> str:
    return (site / name / "index.html").read_text()


def test_the_site_holds_what_there_is(site: Path) -> None:
    assert all(f'id="{name}"' in page(site, "reference/recipes") for name in recipes())
    assert all(f'id="{name}"' in page(site, "reference/stages") for name in stages())
    strategies = page(site, "reference/strategies")
    for kind in (each for each in kinds().values() if each.__module__.startswith("selfloop.")):
        assert f'id="{kind.several()}"' in strategies
        assert all(f"<code>{name}</code>" in strategies for name in kind.members())


def test_a_page_is_shown_without_being_listed(site: Path) -> None:
    front = (site / "index.html").read_text()
    pages = [path.stem for path in (HERE / "docs").glob("*.md")]
    assert all(f'href="{name}/"' in front for name in pages)


def test_papers_lead_to_loops_and_to_parts_of_a_round(site: Path) -> None:
    papers = page(site, "papers")
    assert "https://arxiv.org/abs/2502.01612" in papers
    assert "--set verify.verifier=borda" in papers
    assert "--form r-zero" in papers


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    assert "fonts.googleapis" not in (site / "index.html").read_text()
