"""What rewards of proposals are made of: votes and their uncertainty, tool calls, and how much a batch repeats itself.

After Agent0 (arXiv:2511.16043), its paper and its released code, and R-Zero (arXiv:2508.05004). All of it is pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    import numpy as np


class Vote(NamedTuple):
    """The answer that most attempts give, none where there is no answer, and the share of attempts that give it."""

    label: str | None
    rate: float


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
