"""How fast a training was: tokens a second, and the share of the hardware's peak that went into the model (MFU)."""

from __future__ import annotations

PEAKS = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10": 125e12,
    "V100": 125e12,
}
"""Dense bfloat16 (V100: float16) operations a second, from NVIDIA's data sheets; a name in front hides those in it."""


def peak(device: str) -> float:
    """The operations a second that a device of this name has at most, 0 where that is not known."""
    return next((PEAKS[name] for name in PEAKS if name in device), 0.0)


def speed(tokens: int, seconds: float, parameters: int, processes: int) -> dict[str, float]:
    """Tokens a second, and on known GPUs MFU, at 6 operations a parameter and token (PaLM, arXiv:2204.02311)."""
    import torch

    rate = tokens / max(seconds, 1e-9)
    known = peak(torch.cuda.get_device_name()) if torch.cuda.is_available() else 0.0
    made = {"tokens": float(tokens), "tokens_per_second": rate}
    return made | ({"mfu": 6 * parameters * rate / (known * processes)} if known else {})
