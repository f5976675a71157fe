"""A reward that a discriminator gives which learns from the same attempts, draw by draw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from selfloop.environments import find_environment
from selfloop.errors import UserError
from selfloop.finetune.online.rewards import Attempts, Reward

if TYPE_CHECKING:
    import numpy as np

    Table = np.ndarray[Any, Any]

Shape = Literal["clipped", "linear", "log"]


class Discriminator(BaseModel):
    """A softmax over labels: a row of weights for each, its bias last; how often each label was seen; and how likely
    the discriminator held the labels of the last draw, before it learnt of them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: tuple[tuple[float, ...], ...] = ()
    seen: tuple[int, ...] = ()
    held: float | None = None


class Internal(Reward):
    """How much likelier an attempt makes its task's label to a discriminator than the label is by itself.

    Li et al., "Internally Rewarded Reinforcement Learning" (arXiv:2302.00270): of q(y | attempt) and p(y), the share of
    the labels so far, max(q, p) - p under the ``shape`` clipped, q - p under linear, and under log log q - log p, which
    stretches the errors of a discriminator that knows little. It takes ``updates`` steps on each draw that it rewarded.
    It reads what the policy, as the training began, has for the last token of an attempt, as a vector of length 1, so
    that steps of any rate up to 1 descend, and without the task, from which it could tell the label whatever was
    attempted; a label is the last character of an answer.
    """

    name = "internal"
    asks = "start"
    keeps = Discriminator
    needs = "an environment with an alphabet"
    shape: Shape = Field("clipped", description="How it compares what it holds with what is known beforehand.")
    rate: float = Field(1.0, gt=0, description="Learning rate of the discriminator.")
    updates: int = Field(1, ge=1, description="Its steps on a draw.")

    def rewards(self, attempts: Attempts, state: Discriminator) -> tuple[Sequence[float], Discriminator]:
        """What the discriminator says of a draw, and what it has learnt then."""
        import numpy as np

        from selfloop.finetune.online.representations import representations
        from selfloop.policy import Policy

        context = attempts.context
        labels = labels_of(attempts)
        assert isinstance(context.asked, Policy)
        texts = [rollout._replace(prompt="") for rollout in attempts.rollouts]
        states = representations(context.asked, texts, context.batch_size, "the last token").numpy()
        states /= np.maximum(np.linalg.norm(states, axis=1, keepdims=True), 1e-12)
        return self.given(states, labels, len(alphabet(context.environment)), state)

    def given(
        self, states: Table, labels: Sequence[int], kinds: int, before: Discriminator
    ) -> tuple[list[float], Discriminator]:
        """The same of what was read of attempts (attempts, width), each with the number of its label among so many."""
        import numpy as np
        from scipy.special import log_softmax

        read = np.concatenate([states, np.ones((len(states), 1))], axis=1)
        weights = np.array(before.weights) if before.weights else np.zeros((kinds, read.shape[1]))
        if weights.shape != (kinds, read.shape[1]):
            raise UserError(
                "The discriminator of the reward 'internal' has learnt from another policy or of other labels: begin "
                "anew."
            )
        seen = np.array(before.seen or [0] * kinds)
        rows, prior = np.arange(len(labels)), (seen + 1) / (seen.sum() + kinds)
        held = log_softmax(read @ weights.T, axis=1)[rows, labels]
        for _ in range(self.updates):
            wrong = np.exp(log_softmax(read @ weights.T, axis=1))
            wrong[rows, labels] -= 1
            weights = weights - self.rate * wrong.T @ read / len(read)
        after = Discriminator(
            weights=tuple(map(tuple, weights.tolist())),
            seen=tuple((seen + np.bincount(labels, minlength=kinds)).tolist()),
            held=float(np.exp(held).mean()),
        )
        return compared(held, np.log(prior[list(labels)]), self.shape).tolist(), after

    def summary_of(self, state: Discriminator) -> dict[str, Any]:
        """How likely it held the labels of the last draw."""
        return {"discriminator": state.held}


def compared(held: Table, prior: Table, shape: Shape) -> Table:
    """The reward of some log-probabilities, beside those that were known beforehand."""
    import numpy as np

    if shape == "log":
        return held - prior
    apart: Table = np.exp(held) - np.exp(prior)
    return np.maximum(apart, 0.0) if shape == "clipped" else apart


def alphabet(environment: str) -> str:
    """The labels there are. Raises ``UserError`` where nobody can list them."""
    found = find_environment(environment).alphabet
    if found is None:
        raise UserError(
            f"The reward 'internal' tells answers by their last character, and '{environment}' has no alphabet: choose "
            "an environment whose policies can begin from scratch."
        )
    return found


def labels_of(attempts: Attempts) -> list[int]:
    """The number of each attempt's label. Raises ``UserError`` for a task that nobody knows the answer of."""
    known = alphabet(attempts.context.environment)
    answers = {task.id: task.answer for task in attempts.tasks}
    if odd := next((task for task, answer in answers.items() if answer[-1:] not in known or not answer), None):
        raise UserError(
            f"The reward 'internal' wants the last character of an answer, and the task '{odd}' has none of the "
            "alphabet: choose tasks whose answers are known."
        )
    return [known.index(answers[rollout.task][-1]) for rollout in attempts.rollouts]
