"""What AdamW knows of each weight (its moments and its steps), carried from one training to the next."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfloop.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    Moments = Mapping[str, Tensor]
    """By ``PART.WEIGHT``, such as ``exp_avg.lm_head.weight``."""

FILE = "optimizer.safetensors"
PARTS = ("step", "exp_avg", "exp_avg_sq")


def read_moments(directory: Path) -> Moments:
    """What a training left; nothing where there was none that left something."""
    from safetensors.torch import load_file

    file = directory / FILE
    return load_file(file) if file.is_file() else {}


def write_moments(directory: Path, moments: Moments) -> None:
    """Leave it to the next training."""
    from safetensors.torch import save_file

    save_file({name: value.contiguous() for name, value in moments.items()}, directory / FILE)


def steps_behind(moments: Moments) -> int:
    """The steps that an optimizer took in all."""
    return max((int(value) for name, value in moments.items() if name.startswith("step.")), default=0)


def moments_of(optimizer: Any, weights: Mapping[str, Tensor]) -> Moments:
    """What an optimizer knows of the weights of these names."""
    state = optimizer.state
    known = {name: state[weight] for name, weight in weights.items() if weight in state}
    return {f"{part}.{name}": of[part].detach().cpu() for name, of in known.items() for part in PARTS}


def set_moments(optimizer: Any, weights: Mapping[str, Tensor], moments: Moments) -> None:
    """Let an optimizer go on with this. Raises ``UserError`` where it is of other weights."""
    if not moments:
        return
    shapes = {name: tuple(value.shape) for name, value in moments.items() if name.startswith("exp_avg.")}
    if shapes != {f"exp_avg.{name}": tuple(weight.shape) for name, weight in weights.items()}:
        raise UserError(
            "The optimizer's state is of other weights than those that are trained now: set 'optimizer' to 'anew'."
        )
    for name, weight in weights.items():
        optimizer.state[weight] = {part: moments[f"{part}.{name}"].to(weight.device, copy=True) for part in PARTS}
