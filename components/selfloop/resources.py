"""What a stage asks of the cluster, in Kubernetes' words and quantities.

Kubeflow Pipelines hands a retry to Argo, which as KFP configures it tries again what it calls an error, such as a pod
that was deleted, and not a stage that ends with a status other than 0. A stage is pure and writes all or nothing, so
each may be tried again. A stage that can halt a loop says ``retries=0``, for a cluster that retries more.
"""

from __future__ import annotations

import re
import typing
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

NVIDIA = "nvidia.com/gpu"
WEEK = 7 * 24 * 3600
UNITS = {unit: 1024**power for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)} | {
    unit: 1000**power for power, unit in enumerate(("M", "G", "T", "P", "E"), 2)
}


def _is_cpu(text: str) -> str:
    if not re.fullmatch(r"\d+m|\d+|\d*\.\d+", text) or not in_cores(text):
        raise PydanticCustomError("cpu", "Give a number of cores, such as 4, 0.5 or 500m")
    return text


def _is_memory(text: str) -> str:
    # KFP takes the unit K as well, which Kubernetes refuses when the pod starts
    if not re.fullmatch(r"[1-9]\d*([KMGTPE]i|[MGTPE])?", text):
        raise PydanticCustomError("memory", "Give bytes, or a whole number with a unit, such as 512Mi, 64Gi or 64G")
    return text


def _is_memory_or_none(text: str) -> str:
    return _is_memory(text) if text else text


def _is_name(text: str) -> str:
    if text and not re.fullmatch(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", text):
        raise PydanticCustomError("name", "Kubernetes' names are of lower-case letters, digits, '-' and '.'")
    return text


Cpu = Annotated[str, AfterValidator(_is_cpu)]
Memory = Annotated[str, AfterValidator(_is_memory)]
MemoryOrNone = Annotated[str, AfterValidator(_is_memory_or_none)]
Name = Annotated[str, AfterValidator(_is_name)]


class Toleration(BaseModel):
    """A taint of nodes that a pod may run on all the same; an empty field fits every taint, as in Kubernetes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str = Field("", description="The taint's key; empty with 'Exists' fits all keys.")
    operator: Literal["Equal", "Exists"] = Field("Equal", description="Whether the value counts.")
    value: str = Field("", description="Equal: the taint's value.")
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = Field(
        "", description="Empty fits all effects."
    )

    @model_validator(mode="after")
    def _as_kubernetes_takes_it(self) -> typing.Self:
        if self.operator == "Exists" and self.value:
            raise PydanticCustomError("toleration", "A toleration that 'Exists' has no value")
        if self.operator == "Equal" and not self.key:
            raise PydanticCustomError("toleration", "A toleration without a key must have the operator 'Exists'")
        return self


class Compute(BaseModel):
    """What computes."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    cpu: Cpu = Field("1", description="Cores, or thousandths of one with 'm'.")
    memory: Memory = Field("2Gi", description="Memory in bytes, or with a unit: Mi, Gi, M, G.")
    gpu: int = Field(0, ge=0, description="Whole GPUs.")
    accelerator: str = Field(
        NVIDIA,
        pattern=r"^[a-z0-9.\-]+/[\w.\-]+$",
        description="The resource that a GPU is; its type is chosen by node_selector.",
    )


class Request(Compute):
    """What is asked of the cluster, as far as somebody said it."""

    shm: MemoryOrNone = Field("", description="Size of /dev/shm, taken from the memory; empty: the node's own 64 MiB.")
    ephemeral_storage: MemoryOrNone = Field(
        "", description="Most that /tmp holds, on the node's disk; empty: no limit."
    )
    node_selector: dict[str, str] = Field({}, description="Labels that the node must have.")
    tolerations: list[Toleration] = Field([], description="Taints of nodes that are no obstacle.")
    queue: Name = Field("", description="Kueue's LocalQueue that admits the pod; empty: none.")
    priority_class: Name = Field("", description="Kueue's WorkloadPriorityClass in that queue; empty: none.")
    time_limit: int = Field(0, ge=0, description="Seconds that an attempt may take; 0: no limit.")
    retries: int = Field(
        2, ge=0, le=10, description="Further attempts after one whose pod was deleted or could not be made."
    )
    backoff: int = Field(30, ge=0, description="Seconds before the first of them.")
    backoff_factor: int = Field(2, ge=1, description="How many times longer each further wait is.")
    retry_within: int = Field(
        WEEK, ge=1, description="Seconds from the start of the first attempt after which all of them end."
    )


class Resources(Request):
    """What a stage's pod asks for in all. Requests and limits are the same: a pod gets what it was promised."""

    @model_validator(mode="after")
    def _can_be_had(self) -> typing.Self:
        if self.shm and in_bytes(self.shm) > in_bytes(self.memory):
            raise PydanticCustomError("shm", "shm is part of the memory: ask for more memory or less shm")
        if self.priority_class and not self.queue:
            raise PydanticCustomError(
                "priority", "Kubeflow Pipelines sets no priority class but through Kueue: name a queue too"
            )
        return self


def in_bytes(quantity: str) -> int:
    """A quantity of memory in bytes: ``in_bytes("2Gi") == 2 * 1024**3``."""
    number, unit = re.fullmatch(r"(\d+)(\D*)", quantity).groups()  # type: ignore[union-attr]
    return int(number) * (UNITS[unit] if unit else 1)


def in_cores(quantity: str) -> float:
    """A quantity of cpu in cores: ``in_cores("500m") == 0.5``."""
    return int(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)
