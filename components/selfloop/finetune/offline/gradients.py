"""What a policy gets wrong in texts, a row each: gradients of its last layer, losses, and norms of its errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from selfloop.finetune.offline.encoding import IGNORED, Encoded
from selfloop.policy import Policy
from selfloop.records import Example

Column = np.ndarray[Any, Any]
DIMENSIONS = 64
BATCH_TEXTS = 64


class Errors(NamedTuple):
    """Of each text: its gradient of the last layer, projected and of length 1 (texts, dimensions), the mean loss of its
    learnt tokens, and the mean norm of the error of their probabilities (EL2N).
    """

    gradients: Column
    losses: Column
    norms: Column


@torch.no_grad()
def errors(policy: Policy, texts: Sequence[Example], seed: int) -> Errors:
    """What the policy gets wrong in each text. The gradient of the last layer is the sum over tokens of the error of
    their probabilities times the state that they were told from; both are projected before they are multiplied.
    """
    data, model = Encoded(policy, texts, range(len(texts))), policy.model.eval()
    head, made = model.get_output_embeddings().weight, list[tuple[torch.Tensor, ...]]()
    random, side = torch.Generator().manual_seed(seed % 2**63), int(DIMENSIONS**0.5)
    left, right = (torch.randn(size, side, generator=random).to(head.device) for size in head.shape)
    for first in range(0, len(texts), BATCH_TEXTS):
        batch = data.batch(np.arange(first, min(first + BATCH_TEXTS, len(texts))))
        batch = {name: values.to(head.device) for name, values in batch.items()}
        labels = batch.pop("labels")[:, 1:]
        told = model(**batch, output_hidden_states=True)
        logits, states = told.logits[:, :-1].float(), told.hidden_states[-1][:, :-1].float()
        learnt, size = labels != IGNORED, (labels != IGNORED).sum(1).clamp(min=1)
        hot = torch.nn.functional.one_hot(labels.clamp(min=0), logits.shape[-1])
        error = (logits.softmax(-1) - hot) * learnt[..., None]
        gradient = torch.einsum("btv,bth->bvh", error @ left, states @ right).flatten(1)
        loss = -(logits.log_softmax(-1) * hot).sum(-1) * learnt
        made.append((gradient, loss.sum(1) / size, error.norm(dim=-1).sum(1) / size))
    gradients, losses, norms = (torch.cat(each).double().cpu().numpy() for each in zip(*made, strict=True))
    lengths = np.linalg.norm(gradients, axis=1, keepdims=True)
    return Errors(gradients / np.where(lengths > 0, lengths, 1), losses, norms)


def clustered(points: Column, number: int, seed: int) -> Column:
    """The cluster of each point, from 0 on, by k-means; there may be fewer than ``number``."""
    from scipy.cluster.vq import kmeans2

    most = min(number, len(np.unique(points, axis=0)))
    found: Column = kmeans2(points, most, minit="++", seed=seed % 2**32)[1]
    return found


def shared(sizes: Sequence[int], budget: int) -> list[int]:
    """A budget shared evenly among clusters, none more than it has; what is left of one goes to those with more."""
    given, left = [0] * len(sizes), min(budget, sum(sizes))
    while left:
        open_ = [place for place, size in enumerate(sizes) if given[place] < size]
        each = max(left // len(open_), 1)
        for place in open_:
            part = min(each, sizes[place] - given[place], left)
            given[place] += part
            left -= part
    return given


def telling(*scores: Column) -> Column:
    """The score that puts a cluster's examples furthest apart, by its spread as a share of its mean."""
    return max(scores, key=lambda each: float(each.std() / max(abs(each.mean()), 1e-12)))
