"""Where a task's pod runs, with what, and what it is told: a profile put onto a task of Kubeflow Pipelines.

What kfp-kubernetes 2.17 cannot say, and what stands in for it:

- a priority class: Kueue's label for one;
- a request of ephemeral storage: a limit on the volume at ``/tmp``, which reserves nothing on the node;
- a read-only root filesystem, ``seccompProfile: Localhost`` (KFP sets ``RuntimeDefault`` and drops all capabilities),
  ``fsGroup``: the admission policies in ``manifests/base/sandbox``;
- the service account: a run's, not a task's; these policies give stages that load a policy one with fewer rights;
- which failures are retried: Argo's errors alone, such as a pod that was deleted (see the README of ``profiles``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kfp import kubernetes

from selfloop.modes.configuration import CACHE, CACHES, CONFIG, OPTIONAL_CONFIG
from selfloop.modes.mlflow_plugin import variables
from selfloop.profiles import Cluster, Profile
from selfloop.resources import Compute, Resources
from selfloop.stages import Stage
from selfloop.trust import TRUSTED, trusted

TRAINING = ("finetune", "rl")
"""Images in which a training may span nodes, also that of a fused round."""
RETRIED = {"retries", "backoff", "backoff_factor", "retry_within"}
"""What a profile says of further attempts. Where it is silent there are those that the cluster's own configuration of
Argo gives (KFP's: two), and nothing is sent: it would stand in the state of each task.
"""
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
PRIORITY_LABEL = "kueue.x-k8s.io/priority-class"


def place(
    task: Any, stage: Stage, profile: Profile, image: str, labels: Mapping[str, str] = {}, configured: bool = False
) -> Any:
    """Put what a profile says of a stage onto its task, a ``kfp.dsl.PipelineTask``, and return the task; its pod bears
    the labels too. Where it is to be configured, its pod takes the config map, and knows the caches.
    """
    resources = profile.resources(stage)
    task.set_container_image(image)
    _ask(task, resources)
    _choose_nodes(task, resources)
    for key, value in labels.items():
        kubernetes.add_pod_label(task, key, value)
    _set_environment(task, profile.cluster, stage, image)
    if configured:
        _configure(task, profile.cluster.config_map)
    if stage.image in TRAINING and profile.nodes.model_fields_set:
        task.set_env_variable("SELFLOOP_NODE_RESOURCES", json.dumps(_by_kind(profile.node(stage))))
    _mount(task, profile.cluster, resources)
    if profile.registry.pull_policy != _pull_policy(image):
        kubernetes.set_image_pull_policy(task, profile.registry.pull_policy)
    if profile.registry.pull_secrets:
        kubernetes.set_image_pull_secrets(task, profile.registry.pull_secrets)
    kubernetes.set_security_context(task, run_as_non_root=True)
    return task


def _pull_policy(image: str) -> str:
    """What Kubernetes does about an image of which nothing is said."""
    return "Always" if image.endswith(":latest") else "IfNotPresent"


def _ask(task: Any, resources: Resources) -> None:
    task.set_cpu_request(resources.cpu).set_cpu_limit(resources.cpu)
    task.set_memory_request(resources.memory).set_memory_limit(resources.memory)
    if resources.gpu:
        task.set_accelerator_type(resources.accelerator).set_accelerator_limit(resources.gpu)
    if resources.time_limit:
        kubernetes.set_timeout(task, resources.time_limit)
    if resources.retries and not RETRIED.isdisjoint(resources.model_fields_set):
        # the last is Argo's maxDuration: it counts the attempts too, and ends the one that runs then
        task.set_retry(
            resources.retries, f"{resources.backoff}s", resources.backoff_factor, f"{resources.retry_within}s"
        )


def _choose_nodes(task: Any, resources: Resources) -> None:
    for key, value in resources.node_selector.items():
        kubernetes.add_node_selector(task, key, value)
    for toleration in resources.tolerations:
        kubernetes.add_toleration(task, **toleration.model_dump())
    for label, value in ((QUEUE_LABEL, resources.queue), (PRIORITY_LABEL, resources.priority_class)):
        if value:
            kubernetes.add_pod_label(task, label, value)


def _set_environment(task: Any, cluster: Cluster, stage: Stage, image: str) -> None:
    task.set_env_variable("SELFLOOP_IMAGE", image)
    if trusted():
        task.set_env_variable(TRUSTED, ",".join(trusted()))
    for secret in (each for each in cluster.secrets if not each.stages or stage.verb in each.stages):
        kubernetes.use_secret_as_env(task, secret.name, variables(secret.keys), secret.optional)


def _configure(task: Any, config_map: str) -> None:
    for name, place in CACHES.items():
        task.set_env_variable(name, place)
    if config_map:
        kubernetes.use_config_map_as_env(task, config_map, variables(CONFIG))
        kubernetes.use_config_map_as_env(task, config_map, variables(OPTIONAL_CONFIG), optional=True)


def _by_kind(node: Compute) -> dict[str, str]:
    """What a node asks for, by Kubernetes' names of resources."""
    gpus = {node.accelerator: str(node.gpu)} if node.gpu else {}
    return {"cpu": node.cpu, "memory": node.memory} | gpus


def _mount(task: Any, cluster: Cluster, resources: Resources) -> None:
    if cluster.cache_claim:
        kubernetes.mount_pvc(task, cluster.cache_claim, CACHE)
    else:
        kubernetes.empty_dir_mount(task, "cache", CACHE)
    kubernetes.empty_dir_mount(task, "scratch", "/tmp", size_limit=resources.ephemeral_storage or None)  # noqa: S108
    if resources.shm:
        kubernetes.empty_dir_mount(task, "shm", "/dev/shm", "Memory", resources.shm)  # noqa: S108
