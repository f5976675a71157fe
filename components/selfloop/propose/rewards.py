"""What a proposer is rewarded for: tasks that the solver neither always nor never solves, that differ, that need tools.

Agent0 (arXiv:2511.16043) as its paper and as its released code have it, which differ, and R-Zero. All of it is pure; a
reward of one's own is a function of a ``Proposal`` and ``Weights``, named as ``module:function``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from selfloop.lookup import imported, unknown

if TYPE_CHECKING:
    import numpy as np

UNPARSED = -1.0
"""The reward of a text that is no task, in the released code of Agent0 and in R-Zero."""


class Vote(NamedTuple):
    """The answer that most attempts give, none where there is no answer, and the share of attempts that give it."""

    label: str | None
    rate: float


class Proposal(NamedTuple):
    """A text that a proposer wrote, and what the solver made of it.

    ``share`` is that of its cluster in the batch (``repetition``). ``calls`` is the mean number of tool calls in the
    solver's attempts, ``blocks`` the number of tool results in the proposer's own text.
    """

    is_task: bool
    vote: Vote = Vote(None, 0.0)
    share: float = 0.0
    calls: float = 0.0
    blocks: int = 0
    claimed: str | None = None


class Weights(NamedTuple):
    """The constants of the rewards: ``tool`` and ``cap`` are the paper's, ``each_call`` is the released code's."""

    uncertainty: float = 1.0
    tool: float = 0.6
    repetition: float = 1.0
    each_call: float = 0.05
    cap: int = 4


Reward = Callable[[Proposal, Weights], float]


def votes(answers: Sequence[str | None], among: Literal["all", "parsable"] = "parsable") -> Vote:
    """The answer that occurs most often, the first of those that occur equally often; ``None`` has no vote.

    Its rate is among the answers there are, as where Agent0 curates its pool, or among all attempts, as in its reward.
    """
    counted = Counter(answer for answer in answers if answer is not None)
    if not counted:
        return Vote(None, 0.0)
    label, most = counted.most_common(1)[0]  # of equal ones, the first that was met
    return Vote(label, most / (len(answers) if among == "all" else counted.total()))


def uncertainty(rate: float, form: Literal["paper", "code"] = "paper") -> float:
    """1 - 2|p - 1/2| as in the paper's R_unc, or its half, min(p, 1 - p), as in the code of Agent0 and of R-Zero."""
    return 1 - 2 * abs(rate - 0.5) if form == "paper" else min(rate, 1 - rate)


def tool_reward(calls: float, each_call: float, cap: int) -> float:
    """gamma · min(N_tool, C): the paper's R_tool."""
    return each_call * min(calls, cap)


def paper(proposal: Proposal, weights: Weights) -> float:
    """R_C = R_fmt · max(0, λ_unc R_unc + λ_tool R_tool - R_rep), the calls counted in the solver's attempts."""
    if not proposal.is_task:
        return 0.0
    unc = weights.uncertainty * uncertainty(proposal.vote.rate)
    tool = weights.tool * tool_reward(proposal.calls, weights.each_call, weights.cap)
    return max(0.0, unc + tool - weights.repetition * proposal.share)


def code(proposal: Proposal, weights: Weights) -> float:
    """min(p, 1 - p) - cluster share + 0.05 · min(blocks, 4), the blocks counted in the proposer's own text.

    p is 0 unless the solver's majority is the answer that the proposer claims. Of ``weights``, ``uncertainty`` and
    ``tool`` have no place here.
    """
    if not proposal.is_task:
        return UNPARSED
    agreed = proposal.claimed is not None and proposal.claimed == proposal.vote.label
    unc = uncertainty(proposal.vote.rate if agreed else 0.0, "code")
    tool = tool_reward(proposal.blocks, weights.each_call, weights.cap)
    return unc - weights.repetition * proposal.share + tool


def r_zero(proposal: Proposal, weights: Weights) -> float:
    """min(p, 1 - p) - cluster share, with no claim and no tools (R-Zero's released code)."""
    if not proposal.is_task:
        return UNPARSED
    return uncertainty(proposal.vote.rate, "code") - weights.repetition * proposal.share


REWARDS: dict[str, Reward] = {"paper": paper, "code": code, "r-zero": r_zero}


def find_reward(name: str) -> Reward:
    """The reward of this name. Raises ``UserError`` with the nearest name where there is none."""
    if ":" in name:
        found: Reward = imported("reward", name)
        return found
    if name not in REWARDS:
        raise unknown("reward", name, REWARDS)
    return REWARDS[name]


def curriculum_reward(variant: str, proposal: Proposal, weights: Weights = Weights()) -> float:
    """What a proposer is given for a proposal, by the reward of this name."""
    return find_reward(variant)(proposal, weights)


def characters(text: str) -> list[str]:
    """A text as BLEU reads it: letter by letter, which fits expressions; ``str.split`` fits sentences."""
    return list(text)


def repetition(texts: Sequence[str], cut: float = 0.5, tokens: Callable[[str], list[str]] = characters) -> list[float]:
    """For each text the share |cluster| / B of its cluster in a batch of B: the paper's R_rep over λ_rep.

    Clusters are agglomerative with average linkage on the distance 1 - BLEU, cut at ``cut``. Texts that are the same
    have distance 0; BLEU has two sides, so each pair is compared once, in alphabetical order.
    """
    if len(texts) < 2:
        return [1.0] * len(texts)
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    joined = linkage(squareform(distances(texts, tokens)), "average")
    clusters = fcluster(joined, cut, "distance").tolist()
    sizes = Counter(clusters)
    return [sizes[cluster] / len(texts) for cluster in clusters]


def distances(texts: Sequence[str], tokens: Callable[[str], list[str]]) -> np.ndarray[Any, Any]:
    """1 - BLEU between any two texts, of shape (texts, texts)."""
    import numpy as np

    different = sorted(set(texts))
    place = {text: number for number, text in enumerate(different)}
    apart = np.zeros((len(different), len(different)))
    cut = [tokens(text) for text in different]
    score = bleu()
    for a, b in combinations(range(len(different)), 2):
        apart[a, b] = apart[b, a] = 1 - score(cut[a], cut[b])
    rows = [place[text] for text in texts]
    return apart[np.ix_(rows, rows)]


def bleu() -> Callable[[list[str], list[str]], float]:
    """BLEU of two token lists: up to four in a row, none found counting as a tenth (smoothing 1 of nltk)."""
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    return lambda one, other: float(sentence_bleu([one], other, smoothing_function=SmoothingFunction().method1))
