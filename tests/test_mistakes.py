"""What a type checker, and so an editor, sees of a call of a stage before anything runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
MISTAKES = Path(__file__).with_name("mistakes.py")


def test_mypy_finds_each_of_ten_mistakes_on_its_line() -> None:
    root = MISTAKES.parents[1]
    command = [sys.executable, "-m", "mypy", str(MISTAKES.relative_to(root))]
    told = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=600, check=False).stdout
    found = sorted((int(line), code) for line, code in re.findall(r"mistakes\.py:(\d+): error: .*\[([\w-]+)\]", told))
    expected = [
        (number, code)
        for number, line in enumerate(MISTAKES.read_text().splitlines(), 1)
        for code in re.findall(r"[\w-]+", line.partition("  # ")[2].partition(":")[0])
    ]
    assert found == expected, told
    assert len({number for number, _ in expected}) == 10
