"""Which part of an answer in a chat is the program: every form around a function gives the function back."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selfloop.programs import continued, defines, program_in

ADD = "def add(a, b):\n    return a + b\n"
WRONG = "def add(a, b):\n    return 0\n"
FENCED = f"```python\n{ADD}```\n"


def added(program: str) -> Any:
    """What the function of a program makes of 1 and 2."""
    names: dict[str, Any] = {}
    exec(program, names)
    return names["add"](1, 2)


FORMS = {
    "nothing around it": ADD,
    "a byte order mark": f"\ufeff{ADD}",
    "a fence": FENCED,
    "other line ends": FENCED.replace("\n", "\r\n"),
    "old line ends": FENCED.replace("\n", "\r"),
    "a fence without a label": f"```\n{ADD}```",
    "a label py3": f"```py3\n{ADD}```",
    "a label with a version": f"```Python 3.11\n{ADD}```",
    "a label of attributes": f'```{{.python title="add.py"}}\n{ADD}```',
    "a label that is wrong": f"```text\n{ADD}```",
    "tildes": f"~~~python\n{ADD}~~~",
    "four backticks": f"````python\n{ADD}````",
    "spaces behind the fences": f"```python  \n{ADD}```  ",
    "a fence that is not closed": f"Here:\n```python\n{ADD}",
    "a fence that the prompt opened": f"{ADD}```\nDone.",
    "a fence that the prompt opened, closed on the last line of code": "def add(a, b):\n    return a + b```",
    "a fence without a label behind words": f"Here is the code: ```\n{ADD}```",
    "a fence behind words": f"Here is the code: ```python\n{ADD}```",
    "code behind the label": "```python def add(a, b):\n    return a + b\n```",
    "code on the line of the closing fence": "```python\ndef add(a, b):\n    return a + b```",
    "a fence around one line": "```python def add(a, b): return a + b```",
    "a list": "1. Code:\n   ```python\n   def add(a, b):\n       return a + b\n   ```\n",
    "a list, on the line of the number": "1. ```python\n   def add(a, b):\n       return a + b\n   ```\n",
    "a quotation": "> ```python\n> def add(a, b):\n>     return a + b\n> ```\n",
    "a block moved to the right": "```python\n    def add(a, b):\n        return a + b\n```",
    "a page of Markdown": f"````markdown\n# Answer\n{FENCED}````",
    "a closing fence moved to the right": f"```python\n{ADD}  ```\n",
    "a fence in a text of the program": (
        '```python\ndef add(a, b):\n    """\n    ```\n    add\n    ```\n    """\n    return a + b\n```'
    ),
    "a name that is set": "```python\nadd = lambda a, b: a + b\n```",
    "words before": f"Sure! Here it is:\n{ADD}",
    "words behind": f"{ADD}\nThis adds two numbers.",
    "words on both sides": f"Here is the function:\n\nimport math\n\n{ADD}\nThis adds two numbers. Enjoy!",
    "a text of several lines at its top": f'"""Adds.\nSo it does.\n"""\n{ADD}',
    "tags around its fences": f"<answer>```python\n{ADD}```</answer>",
    "words on the line of the closing fence": f"```python\n{ADD}``` Done.\n",
    "tags of its own": f"[PYTHON]\n{ADD}[/PYTHON]",
    "Markdown without a fence": "Here:\n\n    def add(a, b):\n        return a + b\n\nDone.",
    "an end of the turn": f"```python\n{ADD}```<|im_end|>",
    "tags of HTML": f'<pre><code class="language-python">{ADD}</code></pre>',
    "a tag of code": f"Here:\n<code>{ADD}</code>\nDone.",
    "Python's own prompt": ">>> def add(a, b):\n...     return a + b\n>>> add(1, 2)\n3\n",
    "Python's own prompt in a fence": "```python\n>>> def add(a, b):\n...     return a + b\n...\n>>> add(1, 2)\n3\n```",
    "a line of prose": "Use `add = lambda a, b: a + b` for it, as in `add(1, 2)`.",
    "spaces that do not break": FENCED.replace("    return", "\u00a0\u00a0\u00a0\u00a0return\u00a0"),
    "wide spaces": FENCED.replace("    return", "\u3000return"),
    "spaces that nobody sees": FENCED.replace("def", "\u200bdef"),
    "all of it to the right": "  def add(a, b):\n      return a + b\n",
    "words behind a fence that is not closed": f"```python\n{ADD}\nThis adds two numbers.",
    "a guard at its end": f"```python\n{ADD}\nif __name__ == '__main__':\n    print(add(1, 2))\n```",
}
BEFORE = {
    "nothing": "",
    "a plan without a label": "Plan:\n```\nadd them\n```\n",
    "what to install": "```bash\npip install it\n```\n",
    "a first try": f"```python\n{WRONG}```\nBetter:\n",
    "thoughts": f"<think>\n```python\n{WRONG}```\n</think>\n",
}
BEHIND = {
    "nothing": "",
    "its output": "\nOutput:\n```\n3\n```\n",
    "an example of its use": "\nUse it so:\n```python\nprint(add(1, 2))\n```\n",
    "tests of it": "\n```python\nassert add(2, 2) == 5\n```",
    "how to run it": "\n```bash\npython add.py\n```\n",
    "words": "\nThat is all.",
    "its signature": "\nThe signature is\n```python\ndef add(a: int, b: int) -> int: ...\n```",
    "its first line": "\n```python\ndef add(a, b):\n```",
    "what is left to do": '\n```python\ndef add(a, b):\n    """Adds."""\n    raise NotImplementedError\n```',
    "an import of it": "\n```python\nfrom solution import add\nprint(add(1, 2))\n```",
}


@pytest.mark.parametrize("form", FORMS)
def test_the_program_is_found_in_every_form_of_an_answer(form: str) -> None:
    assert added(program_in(FORMS[form], "add")) == 3


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("behind", BEHIND)
def test_the_program_is_found_whatever_stands_before_and_behind_it(before: str, behind: str) -> None:
    assert added(program_in(f"{BEFORE[before]}{FENCED}{BEHIND[behind]}", "add")) == 3


@pytest.mark.parametrize("behind", BEHIND)
def test_a_program_without_a_fence_is_found_before_fences_of_other_things(behind: str) -> None:
    assert added(program_in(f"{ADD}{BEHIND[behind]}", "add")) == 3


def test_what_the_function_needs_is_taken_from_blocks_before_it() -> None:
    parts = ["import math\n\nK = 3\n", "def floor(a):\n    return math.floor(a)\n", "print(floor(2.5))\n"]
    parts += ["def add(a, b):\n    return floor(a) + b\n", "def add_all(xs):\n    return sum(xs)\n"]
    said = "\nThen:\n".join(f"```python\n{part}```" for part in parts)
    assert program_in(said, "add") == "".join([parts[0], parts[1], parts[3]])


def test_what_the_function_calls_is_taken_from_blocks_behind_it() -> None:
    parts = [
        "def add(a, b):\n    return same(a) + b\n",
        "def same(a):\n    return a\n",
        "def other(a):\n    return 0\n",
    ]
    said = "\nwith\n".join(f"```python\n{part}```" for part in parts)
    assert program_in(said, "add") == "".join(parts[:2])


OPEN = "from typing import List\n\ndef add(a: int, b: int) -> int:\n"


@pytest.mark.parametrize("before", [OPEN, f'{OPEN}    """Adds.\n    """\n'])
@pytest.mark.parametrize(
    "said",
    [
        "    return a + b\n",
        "    return a + b\n```\nDone.",
        "```python\n    return a + b\n```",
        "```python\nreturn a + b\n```",
        ADD,
        FENCED,
    ],
)
def test_an_open_signature_is_completed_or_written_anew(before: str, said: str) -> None:
    assert added(continued(before, program_in(said, "add"), "add")) == 3


def test_what_stands_before_a_program_stays_before_it() -> None:
    assert continued("import math\n", ADD, "add") == f"import math\n{ADD}"


@pytest.mark.parametrize(
    ("completion", "program"),
    [
        ("x = 1", "x = 1"),
        ("Here:\n```python\nx = 1\n```\nDone.", "x = 1\n"),
        ("```\nx = 1\n```", "x = 1\n"),
        ("```Python\nx = 1\n```\nbetter:\n```py\nx = 2\n```", "x = 2\n"),
        ("```python\nx = 1\n```\nIt prints:\n```text\n3\n```", "x = 1\n"),
        ("```python\nx = '''\n``` inside\n'''\n```", "x = '''\n``` inside\n'''\n"),
        ("```text\n3\n```\nx\n```python\nx = 1\n```\ny\n```text\n4\n```", "x = 1\n"),
        ("```python\nx = 1\n```\nIt prints:\n```\n3\n```", "x = 1\n"),
        ("```python\nx = 1", "x = 1\n"),
        ("```python\nprint(input())\n```\nFor example:\n```python\nprint(3)\n```", "print(input())\n"),
        ("```python\nprint(input())\n```\nBetter:\n```python\nprint(open(0).read())\n```", "print(open(0).read())\n"),
        ("```python\nx = sys.stdin.read()\n```\nor in C++:\n```cpp\nint main() {}\n```", "x = sys.stdin.read()\n"),
        ("Here:\n\nn = input()\nprint(n)\n\nIt echoes.", "\nn = input()\nprint(n)\n"),
        ("Here:\n\n    n = input()\n    print(n)\n\nDone.", "\nn = input()\nprint(n)\n"),
        (
            "```python\ndef f(x):\n    return x\n```\n```python\nprint(f(input()))\n```",
            "def f(x):\n    return x\nprint(f(input()))\n",
        ),
        ("I do not know.", "I do not know."),
        ("", ""),
    ],
)
def test_where_no_function_is_named_the_last_block_of_python_that_reads_is_the_program(
    completion: str, program: str
) -> None:
    assert program_in(completion) == program


@pytest.mark.parametrize(
    ("code", "is_defined"),
    [
        ("def add(a): pass", True),
        ("async def add(a): pass", True),
        ("class add: pass", True),
        ("add = sum", True),
        ("add: object = sum", True),
        ("from operator import sub, add", True),
        ("def adder(a): pass", False),
        ("    def add(a): pass", False),
        ("add(1)", False),
        ("add == 1", False),
        ("# def add", False),
    ],
)
def test_a_name_is_defined_at_the_top_of_code(code: str, is_defined: bool) -> None:
    assert defines(f"x = 1\n{code}\n", "add") is is_defined


@given(st.text("`\n~pydef add():>1. ='", max_size=3000))
@settings(max_examples=50, deadline=2000)
def test_any_completion_is_looked_through_in_no_time(text: str) -> None:
    assert program_in(text * 5, "add") is not None
