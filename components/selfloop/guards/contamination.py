"""``contamination``: is the loop training on what it is judged by? Such examples are removed, and counted.

An example is contaminated when its prompt is that of a held-out item, or when it shares with one ``n`` words in a row
(13 after Brown et al., arXiv:2005.14165, appendix C). The wording that items have in common says nothing: n words count
only where both halves of them stand in a single item.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from selfloop.guards import Evidence, Guard, Reading
from selfloop.guards.bounds import Measured
from selfloop.records import Example, Task, read

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    Column = np.ndarray[Any, Any]


class HeldOut(NamedTuple):
    """What examples are compared with: the items' prompts, their words, and the hashes of n of these in a row."""

    prompts: pa.Array
    words: pa.Array
    grams: Column
    n: int


def held_out(items: str | Path, n: int = 13) -> HeldOut:
    """Read a table of items. ``n`` is at least 2."""
    import pyarrow as pa

    found = list(read(items, Task, ["prompt", "answer"]))
    prompts, answers = (pa.chunked_array([b[name] for b in found], pa.string()) for name in ("prompt", "answer"))
    return listed(prompts.combine_chunks(), answers.combine_chunks(), n)


def listed(prompts: pa.Array, answers: pa.Array, n: int = 13) -> HeldOut:
    """What examples are compared with, of the items' prompts and answers."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    prompts = spaced(prompts)
    texts = pc.unique(spaced(_joined(prompts, answers)))
    texts = texts.filter(long_enough(texts, n))
    if not len(texts):
        return HeldOut(pc.unique(prompts), pa.array([], pa.string()), np.empty(0, np.uint64), n)
    split = pc.utf8_split_whitespace(texts)
    words = pc.unique(split.flatten())
    text, numbers = _numbered(split, words)
    half = n // 2
    halves = [_shared_by_none(text, hashes(numbers, size), size) for size in (half, n - half)]
    whole = hashes(numbers, n)
    starts = np.arange(len(whole))
    single = halves[0][starts] & halves[1][starts + half] & (text[starts] == text[starts + n - 1])
    return HeldOut(pc.unique(prompts), words, np.unique(whole[single]), n)


def contaminated(prompts: pa.Array, completions: pa.Array, items: HeldOut) -> Column:
    """Which of these examples are contaminated, a bool each."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    prompts = spaced(prompts)
    mask = pc.is_in(prompts, value_set=items.prompts).to_numpy(zero_copy_only=False).copy()
    if not len(items.grams) or not len(prompts):
        return mask  # type: ignore[no-any-return]
    texts = _joined(prompts, completions)
    long = np.flatnonzero(long_enough(texts, items.n).to_numpy(zero_copy_only=False) & ~mask)
    if len(long):
        text, numbers = _numbered(pc.utf8_split_whitespace(spaced(texts.take(pa.array(long)))), items.words)
        whole = hashes(numbers, items.n)
        found = np.isin(whole, items.grams) & (text[: len(whole)] == text[items.n - 1 :])
        mask[long[np.unique(text[: len(whole)][found])]] = True
    return mask  # type: ignore[no-any-return]


def clean(examples: str | Path, items: HeldOut) -> Column:
    """The row numbers of a table's examples that are not contaminated, rising."""
    import numpy as np

    masks = [np.empty(0, bool)]
    for batch in read(examples, Example, ["prompt", "completion"]):
        masks.append(contaminated(batch["prompt"], batch["completion"], items))
    return np.flatnonzero(~np.concatenate(masks))


def of_prompts(examples: str | Path, usable: Column) -> dict[str, int]:
    """How many different prompts a table of examples has, and of how many an example is not among the usable rows."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    prompts = pa.chunked_array([batch["prompt"] for batch in read(examples, Example, ["prompt"])], pa.string())
    removed = np.ones(len(prompts), bool)
    removed[usable] = False
    found, bad = (pc.count_distinct(each).as_py() for each in (prompts, prompts.filter(pa.array(removed))))
    return {"newest": found, "contaminated": bad}


def spaced(texts: pa.Array) -> pa.Array:
    """Texts with one space where there was any white space, and none at the ends."""
    import pyarrow.compute as pc

    if not pc.any(pc.match_substring_regex(texts, r"\s")).as_py():
        return texts
    return pc.utf8_trim_whitespace(pc.replace_substring_regex(texts, r"\s+", " "))


def long_enough(texts: pa.Array, n: int) -> pa.Array:
    """Which texts may have n words: n words need n - 1 gaps."""
    import pyarrow.compute as pc

    return pc.greater_equal(pc.count_substring_regex(texts, r"\s+"), n - 1)


def hashes(words: Column, n: int) -> Column:
    """A 64-bit hash of every n numbers in a row: a polynomial in an odd factor, of numbers that were mixed before.

    Empty where there are fewer than n.
    """
    import numpy as np

    mixed = words.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(29)
    size = max(len(mixed) - n + 1, 0)
    whole = np.zeros(size, np.uint64)
    for place in range(n):
        whole = whole * np.uint64(0x94D049BB133111EB) + mixed[place : place + size]
    return whole


def _joined(prompts: pa.Array, completions: pa.Array) -> pa.Array:
    import pyarrow.compute as pc

    return pc.binary_join_element_wise(prompts, completions, " ")


def _numbered(split: pa.Array, words: pa.Array) -> tuple[Column, Column]:
    """The words of all texts in a row: which text each is of, and its number, 0 for a word that is not known."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    text = pc.list_parent_indices(split).to_numpy()
    numbers = pc.fill_null(pc.add(pc.index_in(split.flatten(), value_set=words), pa.scalar(1, pa.int32())), 0)
    return text, numbers.to_numpy().astype(np.int64)


def _shared_by_none(text: Column, grams: Column, size: int) -> Column:
    """Whether each gram of ``size`` words stands in one text alone; one that runs over the end of a text is none."""
    import numpy as np

    _, which = np.unique(grams, return_inverse=True)
    first, last = np.full(len(grams), len(text)), np.full(len(grams), -1)
    inside = text[: len(grams)] == text[size - 1 : size - 1 + len(grams)]
    np.minimum.at(first, which[inside], text[: len(grams)][inside])
    np.maximum.at(last, which[inside], text[: len(grams)][inside])
    return (first == last)[which]  # type: ignore[no-any-return]


class Contamination(Guard, warn=0.02, halt=0.2):
    """Held-out items among the new examples."""

    name = "contamination"
    bad = "high"
    look = "the proposer: its tasks are drawn where the held-out items are drawn"
    statistic = "the share of the prompts of this round's new examples that were held-out items"

    def test(self, line: float) -> Measured:
        """Held out, or not."""
        return Measured(line, best=0.0, worst=1.0)

    def __call__(self, evidence: Evidence) -> Reading:
        """The share of new prompts that were held-out items; all of them were removed before training."""
        import numpy as np

        found, examples = (evidence.candidate.get(about, {}) for about in ("contaminated", "examples"))
        if not examples.get("newest"):
            return Reading(None, "there are no new examples")
        prompts = evidence.candidate.get("prompts", {"newest": examples["newest"], "contaminated": found["newest"]})
        units = np.repeat([1.0, 0.0], [prompts["contaminated"], prompts["newest"] - prompts["contaminated"]])
        removed = (f"{found[name]} of {total} {name.replace('_', ' ')}" for name, total in examples.items())
        return Reading(
            float(units.mean()),
            f"held-out items were removed from the examples before training: {', '.join(removed)}",
            beyond=lambda line: [self.test(line).of(units)],
        )
