"""One worker, so that every program runs where the one before it ran."""

from collections.abc import Iterator

import pytest
from selfloop.sandbox import Limits, Program, Sandbox


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(Limits(wall_s=20, cpu_s=20, memory_bytes=2**27), workers=1) as made:
        assert [outcome.status for outcome in made.run([Program("")])] == ["ok"]
        yield made
