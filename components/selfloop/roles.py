"""Roles: what a policy is asked about attempts at a task, beside making them.

A task of a role is a task with what it is about in its metadata: its prompt is that of the task, the attempts, and the
role's mark, which is one token of a policy from scratch. What is asked about a task of a role is a role again: whoever
judges a judgement is a judge.

=========  ========  ==============================================================  =================================
role       attempts  what is asked for                                               what is right
=========  ========  ==============================================================  =================================
judge      1         ``1`` where the attempt is right, ``0`` where it is wrong       what the environment's check says
grounded   1         the same as of a judge, who is told what a tool makes of each   the same
                     step of the attempt
reasoned   1         what each step of the attempt comes to, and behind that the     what it says of the attempt,
                     same as of a judge                                              whatever its reasons
better     2         ``1`` or ``2``, the one that is right; ``0`` where none is      the same
                     better than the other
self       1         ``1`` where the attempt is right, which is not in sight: of an  the same
                     own one, whether it will be
again      1         another attempt at the task, with that one in sight             as of any attempt
wrong      0         an attempt that is wrong                                        what the check calls wrong
worse      1         that attempt, made wrong                                        the same
now        1         the answer, where that is how an attempt begins                the answer that is known
restate    1         the task that it is an attempt at, which is not in sight        what comes to that attempt
backward   1         a number of the task, which is masked, from the answer of that  the number
                     attempt: worked out, where the environment works out steps
=========  ========  ==============================================================  =================================

To propose a task is a task, too (``proposal``), so that ``propose/judge`` is the role of whoever judges proposals:
right is what the environment takes for a task.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from selfloop.errors import UserError
from selfloop.grades import Grade, as_columns
from selfloop.records import Task
from selfloop.seeds import seed_of

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.environments import Environment

JUDGE, GROUNDED, REASONED, SELF, BETTER = "judge", "grounded", "reasoned", "self", "better"
AGAIN, WRONG, WORSE, NOW, RESTATE, BACKWARD = "again", "wrong", "worse", "now", "restate", "backward"
ATTEMPTS: Mapping[str, int] = {
    JUDGE: 1,
    GROUNDED: 1,
    REASONED: 1,
    BETTER: 2,
    SELF: 1,
    AGAIN: 1,
    WRONG: 0,
    WORSE: 1,
    NOW: 1,
    RESTATE: 1,
    BACKWARD: 1,
}
"""How many attempts each role is asked about."""
MARKS: Mapping[str, str] = {role: f"<{role}>" for role in ATTEMPTS}
"""What stands behind the attempts that a role is asked about; in place of what is masked, too."""
SPOILING = (WRONG, WORSE)
"""The roles that are asked for what is wrong."""
STEPWISE = (GROUNDED, REASONED)
"""The judges that go by what each step of an attempt comes to, worked out from what is written before it."""
REWRITING = (AGAIN, *SPOILING)
"""The roles whose answers are attempts as any other."""
OPINIONS: Mapping[str, Mapping[str, float]] = {
    JUDGE: {"1": 1.0, "0": 0.0},
    GROUNDED: {"1": 1.0, "0": 0.0},
    REASONED: {"1": 1.0, "0": 0.0},
    SELF: {"1": 1.0, "0": 0.0},
    BETTER: {"1": 1.0, "0": 0.5, "2": 0.0},
}
"""What the answers of the roles mean that have an opinion: how good the attempt is, or the first one beside the other.
"""
OPINION_TOKENS = 2
PROPOSE = "propose"
BEHIND = "~"
"""What parts the name of a task from that of what is asked about it."""
MARK = re.compile("|".join(map(re.escape, MARKS.values())))
NUMBER = re.compile(r"(?<![\w.])(?:(?<!\))-)?\d+(?:,\d{3})*(?:\.\d+)?(?!\w)")
"""A number of a text; a sign behind a bracket is an operation."""


def role_of(task: Task) -> str:
    """The role that a task asks for; empty where it asks for an attempt."""
    return str(_noted(task).get("role", ""))


def subject(task: Task) -> Task:
    """The task that one of a role is about; of any other, itself."""
    about = _noted(task).get("about")
    return task if about is None else task._replace(**about)


def attempts_of(task: Task) -> list[str]:
    """The attempts that a task of a role is about."""
    return list(_noted(task).get("attempts", ()))


def root(task: Task) -> Task:
    """The task that one of a role is about, below all roles."""
    return root(subject(task)) if role_of(task) else task


def _noted(task: Task) -> Mapping[str, Any]:
    if '"role"' not in task.metadata:
        return {}
    found = json.loads(task.metadata)
    return found if isinstance(found, dict) else {}


def source(id: str) -> str:
    """The name of the task that something is asked about, below all roles, of what is asked about it."""
    return id.partition(BEHIND)[0]


def asked(environment: Environment, role: str, task: Task, attempts: Sequence[str], told: str = "") -> Task:
    """What a policy is asked in a role about attempts at a task, which may be one of a role itself. ``told`` is shown
    behind the attempts.

    The answer is the truth where it is known. Raises ``UserError`` for another number of attempts, and where the
    steps of a judgement shall be worked out.
    """
    if len(attempts) != ATTEMPTS[role]:
        raise UserError(
            f"The role '{role}' is asked about {ATTEMPTS[role]} attempts, not {len(attempts)}: give it as many."
        )
    while role in OPINIONS and role_of(task) in REWRITING:
        task = subject(task)
    if role in STEPWISE and role_of(task):
        raise UserError(f"Nobody works out answers in the role '{role_of(task)}': ask 'judge' about them.")
    given = [readable(environment, attempt) for attempt in attempts]
    answer, limit = _answer(environment, role, task, given)
    return task._replace(
        prompt=worded(environment, role, task, given, told),
        answer=answer,
        max_tokens=limit,
        metadata=json.dumps({"role": role, "attempts": given, "about": _about(task)}),
    )


def worded(environment: Environment, role: str, task: Task, attempts: Sequence[str], told: str = "") -> str:
    """The prompt that asks a policy in a role about attempts at a task."""
    mark, closing = MARKS[role], environment.closing
    given = [readable(environment, attempt) for attempt in attempts]
    if role == BACKWARD:
        return _chosen(environment, task, given[0]).prompt
    given = [] if role == SELF else given
    told = f"{closing}{environment.recomputed(task, given[0])}" if role == GROUNDED else told
    shown = environment.restating(task, *given) if role == RESTATE else task.prompt + f"{mark}{closing}".join(given)
    return f"{shown}{readable(environment, told)}{mark}{'' if role in (*OPINIONS, NOW) else closing}"


class Backward(NamedTuple):
    """A task with a number masked, behind it an answer, and the role's mark; the number, and its place among all."""

    prompt: str
    number: str
    place: int


def backward(environment: Environment, task: Task, answer: str) -> list[Backward]:
    """The backward questions about an answer to a task: each of its numbers is masked in turn."""
    mark, told = MARKS[BACKWARD], readable(environment, answer)
    found = enumerate(masked(task.prompt, mark))
    return [Backward(f"{text}{told}{mark}", number, place) for place, (text, number) in found]


def masked(question: str, mask: str) -> list[tuple[str, str]]:
    """A question with each of its numbers masked in turn, and that number."""
    return [
        (f"{question[: number.start()]}{mask}{question[number.end() :]}", number[0])
        for number in NUMBER.finditer(question)
    ]


def recovered(environment: Environment, text: str) -> str:
    """The number that an answer in the role ``backward`` says, without its working."""
    return text.rpartition(environment.closing)[2] if environment.closing else text


def _chosen(environment: Environment, task: Task, attempt: str) -> Backward:
    """The backward question about an attempt that is asked where one is: the task and the answer choose which."""
    answer = environment.extract_answer(attempt)
    asked = backward(environment, task, answer)
    if not asked:
        raise UserError(f"Task '{task.id}' has no number that could be masked: ask about tasks with numbers.")
    return asked[seed_of(task.prompt, answer) % len(asked)]


def proposal(environment: Environment, task: Task) -> Task:
    """The task to propose one of the same level. Raises ``UserError`` where the environment takes no proposals."""
    if environment.proposal_prompt is None:
        raise UserError(f"Environment '{environment.name}' takes no proposals: choose one that offers 'proposals'.")
    metadata = json.dumps({"role": PROPOSE, "about": _about(task)})
    return task._replace(prompt=environment.proposal_prompt, answer="", metadata=metadata)


def _about(task: Task) -> dict[str, Any]:
    return {name: getattr(task, name) for name in ("prompt", "answer", "max_tokens", "metadata")}


def _answer(environment: Environment, role: str, task: Task, attempts: Sequence[str]) -> tuple[str, int]:
    """What is right to answer in a role, where it is known, and the tokens that an answer may have."""
    if role in REWRITING:
        return (task.answer if role == AGAIN else ""), task.max_tokens
    if role in (NOW, RESTATE):
        said = task.answer if role == NOW else environment.restated(task)
        return said, len(said) + 1
    if role == BACKWARD:
        _, number, place = _chosen(environment, task, attempts[0])
        working = environment.worked_back(task, place, environment.extract_answer(attempts[0]))
        said = f"{working}{environment.closing}{number}" if working else number
        return said, len(said) + 1
    right = [graded(environment, task, attempt).ok for attempt in attempts]
    if role == BETTER:
        return "0" if right[0] == right[1] else "12"[right[1]], OPINION_TOKENS
    said = str(int(right[0]))
    if role != REASONED:
        return said, OPINION_TOKENS
    reasons = f"{environment.recomputed(task, attempts[0])}{environment.closing}"
    return reasons + said, len(reasons) + OPINION_TOKENS


def retold(environment: Environment, task: Task, text: str) -> tuple[str, str]:
    """The prompt of the task that an answer in the role ``restate`` says, and the attempt that was to be restated.

    Raises ``UserError`` for a task of another role.
    """
    if role_of(task) != RESTATE:
        raise UserError(
            f"The task '{task.id}' asks nobody to restate a task: take tasks of the role '{RESTATE}', such as those of "
            "the environment 'asked:restate:chain'."
        )
    return environment.retold(subject(task), readable(environment, text)), attempts_of(task)[0]


def readable(environment: Environment, text: str) -> str:
    """A text without what could be taken for the mark of a role; where the environment has an alphabet, without all
    that is not of it, such as a token for padding that a policy wrote.
    """
    text, own = MARK.sub("", text), environment.special_tokens
    if environment.alphabet is None:
        return text
    known = "|".join([*map(re.escape, own), f"[{re.escape(environment.alphabet)}]"])
    return "".join(found[0] for found in re.finditer(known, text))


def opinion(role: str, text: str) -> float | None:
    """What an answer in a role says, from 0 to 1; ``None`` where it says nothing. Reasons are what stands before it."""
    return OPINIONS.get(role, {}).get(text[-1:] if role == REASONED else text)


def graded(environment: Environment, task: Task, completion: str) -> Grade:
    """What an environment says of an answer to a task, which may be one of a role."""
    role = role_of(task)
    if not role:
        return environment.check(task, completion)
    if role == AGAIN:
        return graded(environment, subject(task), completion)
    if role == PROPOSE:
        ok = proposes(environment, completion)
        return Grade(ok, float(ok), "correct" if ok else "no task")
    if role == RESTATE:
        return environment.check_restated(subject(task), attempts_of(task)[0], completion)
    if role in SPOILING:
        ok = not graded(environment, subject(task), completion).ok
    elif role in OPINIONS:
        ok = opinion(role, completion) == opinion(role, task.answer)
    elif role == BACKWARD:
        ok = recovered(environment, completion) == recovered(environment, task.answer)
    else:
        ok = completion == task.answer
    return Grade(ok, float(ok), "correct" if ok else "wrong answer")


def proposes(environment: Environment, text: str) -> bool:
    """Whether a text is a task of an environment."""
    try:
        environment.parse_proposal(text, "")
    except ValueError:
        return False
    return True


def graded_batch(environment: Environment, tasks: pa.RecordBatch, completions: pa.Array) -> tuple[Any, Any, Any]:
    """The same of a batch: ``ok`` (bool), ``score`` (float), ``reason`` (string), a row each."""
    import pyarrow.compute as pc

    if not pc.any(pc.match_substring(tasks["metadata"], '"role"')).as_py():
        return environment.check_batch(tasks, completions)
    rows = zip(tasks.to_pylist(), completions.to_pylist(), strict=True)
    return as_columns([graded(environment, Task(**row), completion) for row, completion in rows])


def posed(environment: Environment, role: str, task: Task, seed: int) -> Task:
    """A task of a role about attempts that are made up: one half of those that are judged are right, the others have
    one wrong step; what is to be answered ``now`` is how a right one begins.

    In the role ``self``, whose attempt is not in sight, a policy is shown how to answer, and no more.
    ``judge/judge`` is the role of whoever judges such a judgement, ``propose/judge`` of whoever judges proposals.
    """
    if role == PROPOSE:
        return proposal(environment, task)
    below, _, role = role.rpartition("/")
    if role not in environment.roles:
        raise environment.without(role)
    task = posed(environment, below, task, seed) if below else task
    rng = random.Random(seed)
    if role not in (*OPINIONS, AGAIN):
        text = demonstration(environment, task, seed)
        attempts = [text[: rng.choice(environment.steps(text))] if role == NOW else text][: ATTEMPTS.get(role, 0)]
    else:
        both = [demonstration(environment, task, seed), spoilt(environment, task, seed)]
        attempts = rng.sample(both, ATTEMPTS[role])
    return environment.asked(role, task, attempts)


def demonstration(environment: Environment, task: Task, seed: int) -> str:
    """What is right to answer to a task, which may be one of a role, as a policy should write it."""
    role = role_of(task)
    if role in ("", AGAIN):
        return demonstration(environment, subject(task), seed) if role else environment.demonstration(task)
    if role == PROPOSE:
        return environment.proposals(task.level, 1, seed)[0]
    return spoilt(environment, subject(task), seed) if role in SPOILING else task.answer


def spoilt(environment: Environment, task: Task, seed: int) -> str:
    """What is nearly right to answer to a task, and wrong."""
    role = role_of(task)
    if not role:
        return environment.spoilt(task, 1, seed)
    if role in OPINIONS:
        reasons, right = task.answer[:-1], task.answer[-1:]
        return reasons + random.Random(seed).choice([said for said in OPINIONS[role] if said != right])
    if role == PROPOSE:
        return _no_task(environment, demonstration(environment, task, seed), random.Random(seed))
    raise UserError(f"Nobody makes wrong answers of the role '{role}': ask 'judge' about other attempts.")


def _no_task(environment: Environment, text: str, rng: random.Random) -> str:
    """A proposal less the fewest characters, drawn one by one, without which it is no task."""
    while text and proposes(environment, text):
        place = rng.randrange(len(text))
        text = text[:place] + text[place + 1 :]
    return text
