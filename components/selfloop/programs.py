"""Which part of an answer in a chat is the program that was asked for.

It is the last block of code that defines the function asked for, with more than its signature; where none is asked for,
the last block of Python that reads input, or the last of Python. Blocks before it that do nothing but define what it
may need belong to it, and such blocks behind it that define what it calls. Without any block it is what is typed behind
>>>, or the code that stands in a line of prose, or all of the answer. A block stands between fences as in Markdown, or
between tags as in HTML. One that is not closed ends with the text, and one whose opening fence the prompt holds begins
with it. Nothing is parsed as Python, and the time is linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from textwrap import dedent, indent
from typing import NamedTuple

FENCE = re.compile(r"(?P<before>[^`~]*)(?P<fence>`{3,}|~{3,})(?P<label>[^`~]*)")
IN_A_LINE = re.compile(r"\s*```(?:i?py\w*[ \t]+)?([^`]+)```\s*")
MARGIN = re.compile(r"[\s>]*(?:[-*+]|\d{1,3}[.)])?\s*")
PYTHON = re.compile(r"i?py(?:thon)?[\d.]*|code|", re.IGNORECASE)
SETS = (
    r"[A-Za-z_][\w.]*(?:\[[^\]\n]*\])?(?:\s*,\s*[A-Za-z_]\w*)*(?:\s*:[\w\[\], .|]+)?"
    r"\s*(?:[-+*/%&|^@]|//|\*\*|<<|>>)?=(?!=)"
)
DEFINING = re.compile(rf"(?:async\s+)?def\s|class\s|import\s|from\s+\S+\s+import\b|[@#)\]}}]|'''|\"\"\"|\s|$|{SETS}")
RUNNING = re.compile(
    r"[A-Za-z_][\w.]*\(|(?:for|while|with|if|elif|match|except)\s.*:|(?:else|try|finally)\s*:"
    r"|(?:assert|return|raise|del|global|yield|pass|break|continue)\b"
)
HOLLOW = re.compile(r"\s*(?:\.\.\.|pass|raise\s+NotImplementedError\b.*|#.*|(?:\"{3}|'{3}).*)?\s*")
OPENING_TAG = re.compile(r"^[ \t]*(?:<(?:pre|code)(?:\s[^<>\n]*)?>[ \t]*)+\n?", re.MULTILINE)
CLOSING_TAG = re.compile(r"\n?(?:</(?:code|pre)>[ \t]*)+$", re.MULTILINE)
TYPED = re.compile(r"^[ \t]*(?:>>>|\.\.\.)(?: (.*)|)$", re.MULTILINE)
IN_PROSE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
NAMED = re.compile(r"^(?:(?:async[ \t]+)?def|class)[ \t]+(\w+)", re.MULTILINE)
UNSEEN = dict.fromkeys((8203, 8204, 8205, 8206, 8207, 8288, 65279), "")
UNSEEN |= dict.fromkeys((160, 5760, *range(8192, 8203), 8239, 8287, 12288), " ")
"""Spaces that Python has not, and what is written in their place."""
READING = re.compile(r"\binput\s*\(|\bstdin\b|\b(?:open|read)\s*\(\s*0\b|\bfileinput\b")


class Block(NamedTuple):
    """Code of an answer, and what its fence says of it; ``None`` where it has none."""

    code: str
    label: str | None

    @property
    def is_python(self) -> bool:
        """Whether it is Python, as far as its fence says."""
        word = re.match(r"[\s{.]*([\w.]*)", self.label or "")
        return self.label is not None and word is not None and PYTHON.fullmatch(word[1]) is not None


def program_in(completion: str, function: str = "") -> str:
    """The program in an answer: what defines the function, where one is named, or else what is marked as Python."""
    text = _in_plain_spaces(completion.replace("\r\n", "\n").replace("\r", "\n")).rpartition("</think>")[2]
    if "```" not in text and "~~~" not in text:
        text = OPENING_TAG.sub("```\n", CLOSING_TAG.sub("\n```", text))
    blocks = [inner for block in _blocks(text, function) for inner in _within(block, function)]
    marked = [place for place, block in enumerate(blocks) if block.is_python]
    best = _defining(blocks, marked, function)
    if not best and function and (said := _within_text(text, function)):
        return said
    best = best or _reading(blocks, marked)
    if not best:
        return _without_prose(text, function)
    program = blocks[best[-1]].code
    if not function and not READING.search(program):
        return program
    others = [place for place in marked if not defines(blocks[place].code, function) and place != best[-1]]
    helping = [place for place in others if _only_defines(blocks[place].code)]
    program = "".join([*(blocks[place].code for place in helping if place < best[-1]), program])
    missing = set(re.findall(r"\w+", program)) - set(NAMED.findall(program)) if function else set()
    behind = [blocks[place].code for place in helping if place > best[-1]]
    return "".join([program, *(code for code in behind if not missing.isdisjoint(NAMED.findall(code)))])


def _defining(blocks: Sequence[Block], marked: Sequence[int], function: str) -> list[int]:
    """The blocks that define a function: with a body rather than without, in Python rather than in another language."""
    found = [place for place, block in enumerate(blocks) if defines(block.code, function)]
    found = [place for place in found if not _is_hollow(blocks[place].code, function)] or found
    return [place for place in found if place in marked] or found


def _reading(blocks: Sequence[Block], marked: Sequence[int]) -> list[int]:
    """The blocks of Python: of those that a label says to be, rather than others, and of those that read input."""
    found = [place for place in marked if (blocks[place].label or "").strip()] or list(marked)
    return [place for place in found if READING.search(blocks[place].code)] or found


def _is_hollow(code: str, function: str) -> bool:
    """Whether code has no more of a function than its signature, or than an import of it."""
    name = re.escape(function)
    own = rf"^(?:async[ \t]+)?def[ \t]+{name}\b[^\n]*?:(?=[^:\n]*$)"
    parts = re.split(own, code, maxsplit=1, flags=re.MULTILINE)
    if len(parts) == 1:
        return re.search(rf"^from[ \t][^\n]*[ \t,]{name}\b", code, re.MULTILINE) is not None
    return all(map(HOLLOW.fullmatch, _outside_texts(parts[1].split("\n"))))


def _within_text(text: str, function: str) -> str:
    """Code that defines a function behind the signs of Python's own prompt, or between ticks; empty where none does."""
    typed = "".join(f"{line}\n" for line in TYPED.findall(text))
    said = [f"{code.strip()}\n" for code in IN_PROSE.findall(text)]
    return next((code for code in (typed, *reversed(said)) if defines(code, function)), "")


def _in_plain_spaces(text: str) -> str:
    """A text whose margins, and whose lines without quotes, have no spaces but those of Python."""
    return text if text.isascii() else "\n".join(map(_with_plain_spaces, text.split("\n")))


def _with_plain_spaces(line: str) -> str:
    if line.isascii():
        return line
    if "'" not in line and '"' not in line:
        return line.translate(UNSEEN)
    code = line.lstrip("".join(map(chr, UNSEEN)) + " \t")
    return line[: len(line) - len(code)].translate(UNSEEN) + code


def continued(before: str, program: str, function: str) -> str:
    """A program behind what stands before it, which may be an open signature: that it completes, or writes anew."""
    if not defines(before, function):
        return before + program
    last = before.rstrip().rpartition("\n")[2]
    margin = last[: len(last) - len(last.lstrip())] or "    "
    if defines(program, function):
        return f"{before.rstrip()}\n{margin}pass\n{program}"
    is_flush = before.endswith("\n") and program.strip() and not program.lstrip("\n")[:1].isspace()
    return before + (indent(program, margin) if is_flush else program)


def defines(code: str, function: str) -> bool:
    """Whether code gives this name to something at its top, as far as its lines show."""
    name = re.escape(function)
    given = (
        rf"^(?:(?:async[ \t]+)?def|class)[ \t]+{name}\b|^{name}[ \t]*(?::[^=\n]*)?=(?!=)"
        rf"|^from[ \t][^\n]*[ \t,]{name}[ \t]*(?:,|$)"
    )
    return bool(function) and re.search(given, code, re.MULTILINE) is not None


def _blocks(text: str, function: str) -> Iterator[Block]:
    """The blocks of a text, in order; code without a fence is one where it defines the function."""
    lines: list[str] = []
    opened: _Opened | None = None
    for line in text.split("\n"):
        found = FENCE.fullmatch(line) if "```" in line or "~~~" in line else None
        if opened is not None:
            rest = opened.before_end(line)
            lines.append(opened.without_margin(line if rest is None else rest))
            if rest is not None:
                yield Block(_flush(_joined(lines), function), opened.label)
                lines, opened = [], None
        elif one := IN_A_LINE.fullmatch(line):
            yield Block(one[1].strip() + "\n", "")
        elif found and (MARGIN.fullmatch(found["before"]) or Block("", found["label"]).is_python):
            above, lines = _joined([*lines, *filter(str.strip, [found["before"]])]), []
            is_end = not found["label"].strip() and _begins_with_code(above)
            if is_end or defines(above, function):
                yield Block(_flush(_without_prose(above, function), function), "" if is_end else None)
            if not is_end:
                opened, lines = _Opened(found), _behind_the_label(found["label"])
        else:
            lines.append(line)
    rest = _joined(lines)
    if opened is not None:
        yield Block(_flush(_without_prose(rest, function), function), opened.label)
    elif defines(rest, function):
        yield Block(_without_prose(rest, function), None)


def _within(block: Block, function: str) -> Iterator[Block]:
    """A block itself, or where it is a page of Markdown, its blocks."""
    if re.match(r"\s*(?:markdown|md)\b", block.label or ""):
        yield from _blocks(block.code, function)
    else:
        yield block


class _Opened:
    """A block whose end is looked for."""

    def __init__(self, found: re.Match[str]) -> None:
        margin = MARGIN.match(found["before"])
        self._fence, self.label = found["fence"], found["label"]
        self._margin = len(margin[0]) if margin and ">" not in margin[0] else 0
        self._is_quote = ">" in found["before"]
        self._in_text = False

    def without_margin(self, line: str) -> str:
        """A line of the block without what moves the block to the right."""
        if self._is_quote:
            return re.sub(r"^\s*>\s?", "", line)
        return line[min(self._margin, len(line) - len(line.lstrip())) :]

    def before_end(self, line: str) -> str | None:
        """What a line says before the block's end; ``None`` where the block goes on. A fence within a text is none."""
        code = line.rstrip().rstrip(self._fence[0])
        is_last = line.rstrip().endswith(self._fence) or re.match(rf"[\s>]*{self._fence}(?!\w)", line) is not None
        if is_last and not self._in_text:
            return code if line.rstrip().endswith(self._fence) else ""
        self._in_text ^= _turns(line)
        return None


def _turns(line: str) -> bool:
    """Whether a text of several lines begins or ends on a line."""
    return (line.count('"""') + line.count("'''")) % 2 == 1


def _behind_the_label(label: str) -> list[str]:
    """Code that stands on the line of the opening fence."""
    code = label.strip().partition(" ")[2].strip()
    return [code] if re.match(r"(?:async\s+)?def\s|class\s|import\s|from\s|@\w", code) else []


def _joined(lines: Sequence[str]) -> str:
    text = "\n".join(lines)
    return f"{text}\n" if text and not text.endswith("\n") else text


def _flush(code: str, function: str) -> str:
    """Code at the left margin, where it is all of it that stands to the right of it, and not a body alone."""
    moved = dedent(code)
    if not function:
        return moved
    return moved if not defines(code, function) and defines(moved, function) else code


def _begins_with_code(text: str) -> bool:
    first = next(filter(str.strip, text.split("\n")), "")
    return bool(first) and _is_code(first)


def _is_code(line: str) -> bool:
    return DEFINING.match(line) is not None or RUNNING.match(line) is not None


def _only_defines(code: str) -> bool:
    return all(DEFINING.match(line) for line in _outside_texts(code.split("\n")))


def _outside_texts(lines: Sequence[str]) -> list[str]:
    """The lines that do not begin within a text of several lines; the others are empty."""
    found, in_text = [], False
    for line in lines:
        found.append("" if in_text else line)
        in_text ^= _turns(line)
    return found


def _without_prose(text: str, function: str) -> str:
    """The run of lines of code that defines the function, or reads input where none is asked for, if there is prose
    above or below it; else all. Code may stand to the right of all prose, as in Markdown without fences.
    """
    lines = text.split("\n")
    code = [_is_code(line) for line in _outside_texts(lines)]
    filled = [is_code for line, is_code in zip(lines, code, strict=True) if line.strip()]
    starts = [
        place
        for place, line in enumerate(lines)
        if (defines(line.strip(), function) if function else READING.search(line))
    ]
    if not starts or (filled[0] and filled[-1]):
        return _flush(text, function)
    first = last = max(starts, key=lambda place: (not lines[place][:1].isspace(), place))
    if lines[first][:1].isspace():
        code = [not line[:1].strip() for line in lines]
    while first and code[first - 1]:
        first -= 1
    while last + 1 < len(lines) and code[last + 1]:
        last += 1
    return _flush(_joined(lines[first : last + 1]), function)
