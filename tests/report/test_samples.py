"""The page of a round's samples, as the KFP run page shows it."""

import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from selfloop.report import samples_page


def _round(completion: str) -> dict[str, Any]:
    attempts = [
        {"completion": completion, "ok": True, "truth": True, "reason": "equal"},
        {"completion": "5", "ok": False, "truth": False, "reason": "differs"},
    ]
    return {"round": 2, "samples": [{"level": 3, "prompt": "1+1=", "answer": "2", "attempts": attempts}]}


def test_it_tells_prompt_answer_and_what_was_held_of_each_attempt() -> None:
    page = samples_page(_round("2"))
    assert page.startswith("# Round 2: 1 tasks and what was attempted")
    for said in ("## Level 3", "1+1=", "**right** (equal)", "**wrong** (differs)"):
        assert said in page


@given(st.text(alphabet="`~ab\n#", max_size=40))
def test_a_completion_cannot_leave_its_fence(completion: str) -> None:
    lines = samples_page(_round(completion)).split("\n")
    start = lines.index("**right** (equal)") + 2
    fence = re.fullmatch("(`{3,})text", lines[start])
    assert fence is not None
    end = lines.index(fence[1], start + 1)
    assert "\n".join(lines[start + 1 : end]) == completion
