"""The gradient of a step as the sum of two parts, the second of them made in a fork: all cores for a small policy.

A small policy computes on one thread, and leaves the other cores idle. A batch's rows are cut in two where both parts
take equal work, by a rule that knows the rows alone. The gradient is the first part's plus the second's, in this order,
whether one process makes both or two make one each: equal weights on any number of cores.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor

from selfloop import machine
from selfloop.errors import UserError

Batch = Mapping[str, Tensor]
"""Tensors of shape (batch, length), padded right, with an ``attention_mask`` among them."""
LEAST = 512
"""Tokens of a batch, padding among them, from which on it is cut: what a part costs beside its arithmetic pays then."""
ALIGNED = 64
"""Bytes at which weights begin, as torch's own do."""


def halved(batch: Batch) -> list[Batch]:
    """The rows of a batch in two parts, the longest rows first, none padded further than its longest row.

    They are cut where the larger part, in rows times length, is least. A batch of fewer than ``LEAST`` tokens is one.
    """
    if batch["attention_mask"].numel() < LEAST or len(batch["attention_mask"]) < 2:
        return [batch]
    lengths, rows = batch["attention_mask"].sum(1).sort(descending=True, stable=True)
    first = torch.arange(1, len(rows))
    cut = int(torch.maximum(first * lengths[0], (len(rows) - first) * lengths[1:]).argmin()) + 1
    parts = [(rows[:cut], int(lengths[0])), (rows[cut:], int(lengths[cut]))]
    return [{name: values[some, :width] for name, values in batch.items()} for some, width in parts]


class Halves:
    """Adds up gradients of ``weights``; ``loss`` gives the share that a part has in a step's loss.

    The fork starts at the first step of two parts, where there are two cores. It has the weights in memory that it
    shares, hears of each part in a pipe, and ends with this process, however that ends.
    """

    def __init__(self, weights: Sequence[Tensor], loss: Callable[[Batch, int], Tensor]) -> None:
        self._weights, self._loss = weights, loss
        self._second = [torch.zeros_like(weight) for weight in weights]
        self._fork: tuple[Any, Connection] | None = None

    def gradient(self, batch: Batch, items: int) -> float:
        """Leave the gradient of a step in the weights' ``grad``. Returns the loss.

        ``items`` are the tokens that the step learns. Raises ``UserError`` where the fork was killed, and what ``loss``
        raises, wherever it does.
        """
        first, *second = halved(batch)
        if not second:
            return self._made(first, items)
        if self._fork is None and machine.cores() > 1:
            self._fork = self._started()
        if self._fork is None:
            there = self._kept(second[0], items)
            return self._made(first, items) + self._added(there)
        told = self._fork[1]
        try:
            told.send(({name: values.numpy() for name, values in second[0].items()}, items))
            here = self._made(first, items)
            there = told.recv()
        except (EOFError, OSError):
            raise UserError(
                "The process that makes half of each step's gradient died: give the training more memory if that was "
                "used up, and run it again: it continues from its last checkpoint."
            ) from None
        if isinstance(there, Exception):
            raise there
        return here + self._added(there)

    def close(self) -> None:
        """End the fork, and take the weights out of the memory that was shared."""
        if self._fork is None:
            return
        process, told = self._fork
        self._fork = None
        told.close()
        process.kill()
        process.join()
        for weight in self._weights:
            weight.data = weight.data.clone()

    def _made(self, part: Batch, items: int) -> float:
        """Leave the gradient of one part in ``grad``. Returns what it adds to the loss."""
        for weight in self._weights:
            weight.grad = None
        loss = self._loss(part, items)
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    def _gradient(self) -> list[Tensor]:
        """What the last part left; zero where nothing did."""
        for weight in self._weights:
            weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
        return [weight.grad for weight in self._weights if weight.grad is not None]

    def _kept(self, part: Batch, items: int) -> float:
        """Make the second part, and put its gradient aside."""
        value = self._made(part, items)
        torch._foreach_copy_(self._second, self._gradient())
        return value

    def _added(self, value: float) -> float:
        """Add the second part's gradient, which is there, to the first's; ``value`` is the second's loss."""
        for gradient, second in zip(self._gradient(), self._second, strict=True):
            gradient += second
        return value

    def _started(self) -> tuple[Any, Connection]:
        for weight, values in zip(self._weights, shared(self._weights), strict=True):
            weight.data = values
        self._second = shared(self._second)
        context = multiprocessing.get_context("fork")
        told, heard = context.Pipe()
        process = context.Process(target=self._serve, args=(heard, told), daemon=True)
        process.start()
        heard.close()
        return process, told

    def _serve(self, heard: Connection, told: Connection) -> None:
        """In the fork: make second parts until nobody asks; what goes wrong ends it, and is said to the parent."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        told.close()
        try:
            while True:
                batch, items = heard.recv()
                heard.send(self._kept({name: torch.from_numpy(values) for name, values in batch.items()}, items))
        except Exception as error:
            heard.send(error)
        finally:
            os._exit(1)


def shared(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Copies of tensors in memory that forks share; it goes with the last of them."""
    sizes = [-(-each.numel() * each.element_size() // ALIGNED) * ALIGNED for each in tensors]
    memory, copies, offset = mmap.mmap(-1, sum(sizes)), [], 0
    for each, size in zip(tensors, sizes, strict=True):
        flat = torch.frombuffer(memory, dtype=each.dtype, count=each.numel(), offset=offset)
        copies.append(flat.view(each.shape).copy_(each.detach()))
        offset += size
    return copies
