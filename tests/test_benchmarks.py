"""Benchmarks are run by hand; that they start is tested."""

from pathlib import Path

import pytest

from . import forked

pytestmark = pytest.mark.slow

BENCHMARKS = sorted(Path(__file__).parent.glob("benchmarks/*.py"))


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda path: path.stem)
def test_a_benchmark_starts(benchmark: Path, tmp_path: Path) -> None:
    done = forked.run(str(benchmark), "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
