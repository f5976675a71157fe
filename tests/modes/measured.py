"""Pipelines of which a real cluster told what they come to: their tasks, and who takes what from whom.

They are written anew from what they held (stages, artifacts, the settings of their pods); the environment and the texts
of the stages' functions are those of their day in length, not to the letter.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

Spec = dict[str, Any]
LENGTH_GENERALIZATION = """
propose-tasks: curriculum -> tasks items
generate-rollouts: policy=champion tasks -> rollouts
verify-rollouts: tasks rollouts -> verdicts audit
filter-rollouts: rollouts verdicts kept -> examples next_kept
finetune-policy: policy=champion newest=examples kept=next_kept base items -> candidate
evaluate-policies: candidate champion items -> results
gate-candidate: rollouts verdicts audit examples candidate results history -> decision
advance-curriculum: curriculum results decision -> next_curriculum
report-round: history tasks rollouts verdicts audit examples decision candidate state=next_curriculum results \
  -> next_history report sampled
promote-length-generalization: champion curriculum base kept history next_champion=candidate next_curriculum \
  next_base=base next_kept next_history decision -> new_champion new_curriculum new_base new_kept new_history \
  metrics
"""
FUSED = """
round-length-generalization: champion curriculum base kept history -> new_champion new_curriculum new_base \
  new_kept new_history metrics sampled artifacts report
"""
STATE = "champion curriculum base kept history"
AGENT0 = """
draw-tasks: -> drawn items
reinforce-proposer: policy=proposer solver=executor -> proposing asked
propose-by-policy: known policy=proposing items -> tasks next_known
generate-rollouts: policy=executor tasks -> rollouts
verify-rollouts: tasks rollouts -> verdicts audit
band-tasks: tasks rollouts verdicts -> band
reinforce-policy: tasks=band policy=executor items -> candidate attempts
verify-rollouts-2: tasks=band rollouts=attempts -> judged audited
filter-rollouts: rollouts=attempts verdicts=judged kept -> examples next_kept
evaluate-policies: candidate champion=executor items -> results
gate-candidate: rollouts=attempts verdicts=judged audit=audited examples candidate results history -> decision
check-progress: results state decision -> next_state
report-role: history candidate=proposing policy=proposer -> reported
report-round: history=reported tasks=band rollouts=attempts verdicts=judged audit=audited examples decision \
  candidate state=next_state results -> next_history report sampled
promote-agent0: proposer executor known state kept history next_proposer=proposing next_executor=candidate \
  next_known next_state next_kept=kept next_history decision -> new_proposer new_executor new_known new_state \
  new_kept new_history metrics
"""
PLAYERS = "proposer executor known state kept history"
MODELS = "champion candidate policy executor proposer solver proposing"
NOTES = "curriculum history decision state known resolved artifacts"
IMAGES = ("base", "base", "generate", "finetune", "sandbox", "rl")
FORM = """finetune_steps evaluate_samples finetune_batch_size gate_margin origin finetune_method target model seed
environment generate_temperature settings finetune_lr generate_max_tokens propose_per_level gate_confidence policy
engine"""
RESOURCES = {
    "resourceCpuLimit": "2",
    "resourceCpuRequest": "2",
    "resourceMemoryLimit": "4Gi",
    "resourceMemoryRequest": "4Gi",
}
NUMBERS = {"cpuLimit": 2.0, "cpuRequest": 2.0, "memoryLimit": 4.294967296, "memoryRequest": 4.294967296}
RETRIES = {"backoffDuration": "30s", "backoffFactor": 2.0, "backoffMaxDuration": "604800s", "maxRetryCount": 2}
STARTING = """program_path=$(mktemp -d)

printf "%s" "$0" > "$program_path/ephemeral_component.py"
_KFP_RUNTIME=true python3 -m kfp.dsl.executor_main                         --component_module_path \
                        "$program_path/ephemeral_component.py"                         "$@"
"""


def pipeline(name: str, stages: str, state: str, rounds: int) -> tuple[Spec, Spec]:
    """A pipeline of so many rounds, and what it asks of Kubernetes."""
    made, left = _Pipeline(name), [f"next_{each}" for each in state.split()]
    tasks = {
        f"resolve-{name}": made.task(f"resolve-{name}", "resolve", {}, ["resolved"], FORM.split()),
        f"start-{name}": made.task(f"start-{name}", "start", {}, [*left, "report", "artifacts"]),
    }
    before = {each: _from(f"start-{name}", f"next_{each}") for each in state.split()}
    before["resolved"] = _from(f"resolve-{name}", "resolved")
    tasks |= made.rounds(stages, before, rounds)
    form = {
        each: {
            "defaultValue": 0.5,
            "description": _words(each)[:60],
            "parameterType": "NUMBER_DOUBLE",
            "isOptional": True,
        }
        for each in FORM.split()
    }
    root = {"dag": {"tasks": tasks}, "inputDefinitions": {"parameters": form}}
    spec = {"pipelineInfo": {"name": name}, "root": root, "components": made.components}
    asked = {"kubernetes": {"deploymentSpec": {"executors": made.asked}}}
    return spec | {"deploymentSpec": {"executors": made.executors}}, {"platforms": asked}


def _from(task: str, key: str) -> Spec:
    return {"taskOutputArtifact": {"outputArtifactKey": key, "producerTask": task}}


def _constant(value: str) -> Spec:
    return {"runtimeValue": {"constant": value}}


def _typed(names: list[str]) -> Spec:
    return {
        name: {"artifactType": {"schemaTitle": f"system.{_kind(name)}", "schemaVersion": "0.0.1"}} for name in names
    }


def _kind(name: str) -> str:
    plain = name.removeprefix("next_").removeprefix("new_")
    return {**dict.fromkeys(MODELS.split(), "Model"), **dict.fromkeys(NOTES.split(), "Artifact")}.get(plain, "Dataset")


class _Pipeline:
    def __init__(self, name: str) -> None:
        self._name = name
        self.components: dict[str, Spec] = {}
        self.executors: dict[str, Spec] = {}
        self.asked: dict[str, Spec] = {}

    def task(self, name: str, shown: str, inputs: Spec, outputs: list[str], form: list[str] | None = None) -> Spec:
        component = f"comp-{name.removesuffix('-2')}"
        self.components[component] = {
            "executorLabel": component.replace("comp", "exec"),
            "inputDefinitions": {
                "artifacts": _typed([*inputs]),
                "parameters": {each: {"parameterType": "STRING"} for each in form or ["call"]},
            },
            "outputDefinitions": {"artifacts": _typed(outputs)},
        }
        self.executors[component.replace("comp", "exec")] = {"container": _container(name, inputs, outputs, form)}
        self.asked[component.replace("comp", "exec")] = _kubernetes(name)
        given: Spec = {each: {"componentInputParameter": each} for each in form or ()}
        compiled = json.dumps({each: _words(each)[:9] for each in (*given, *IMAGES)})
        given |= {"compiled": _constant(compiled)} if form else {"call": _constant("1.10")}
        made = [each for each in inputs.values() if "taskOutputArtifact" in each]
        return {
            "cachingOptions": {},
            "componentRef": {"name": component},
            "dependentTasks": [each["taskOutputArtifact"]["producerTask"] for each in made][:2],
            "inputs": {"artifacts": inputs, "parameters": given},
            "retryPolicy": RETRIES,
            "taskInfo": {"name": shown},
        }

    def rounds(self, stages: str, before: Spec, left: int) -> dict[str, Spec]:
        """The tasks of a round, and the graph of those after it, which stands in a condition."""
        sources, tasks = dict(before), {}
        for line in stages.strip().splitlines():
            name, _, rest = line.partition(":")
            taken, _, made = rest.partition("->")
            inputs = {each.partition("=")[0]: sources[each.rpartition("=")[2]] for each in taken.split()}
            outputs = made.split()
            tasks[name] = self.task(
                name, f"round {left} · {name.partition('-')[0]}", inputs | {"resolved": before["resolved"]}, outputs
            )
            sources |= {each: _from(name, each) for each in outputs}
        if left > 1:
            given = {each: sources.get(f"new_{each}", sources[each]) for each in before}
            component = f"comp-condition-{left}"
            inside = {each: {"componentInputArtifact": each} for each in before}
            dag = {"tasks": self.rounds(stages, inside, left - 1)}
            self.components[component] = {"dag": dag, "inputDefinitions": {"artifacts": _typed([*before])}}
            condition = "inputs.parameter_values['pipelinechannel--advance-curriculum-Output'] == true"
            tasks["condition"] = {
                "componentRef": {"name": component},
                "dependentTasks": [name],
                "inputs": {"artifacts": given},
                "taskInfo": {"name": f"round-{left}"},
                "triggerPolicy": {"condition": condition},
            }
        return tasks


def _container(name: str, inputs: Spec, outputs: list[str], form: list[str] | None) -> Spec:
    taken = [
        f"{each}: {side}[{_kind(each)}]" for side, names in (("Input", inputs), ("Output", outputs)) for each in names
    ]
    taken += [f"{each}: str" for each in form or ["call"]]
    image = f"selfloop/{IMAGES[len(name) % len(IMAGES)]}:0.1.0"
    function = name.replace("-", "_")
    source = (
        "\nimport kfp\nfrom kfp import dsl\nfrom kfp.dsl import *\nfrom typing import *\n\n"
        f'def {function}({", ".join(taken)}):\n    r"""{_words(name)}'
        f'\n    """\n    from selfloop.modes.calls import enter\n\n'
        f"    return enter('selfloop.{function[:8]}.{function[:8]}:{function}', locals())\n\n"
    )
    settings = {
        "SELFLOOP_IMAGE": image,
        "SELFLOOP_CACHE": "/var/cache/selfloop",
        "HF_HOME": "/var/cache/selfloop/huggingface",
        "PYTHONHASHSEED": "0",
    }
    return {
        "args": ["--executor_input", "{{$}}", "--function_to_execute", function],
        "command": ["sh", "-ec", STARTING, source],
        "env": [{"name": each, "value": value} for each, value in settings.items()],
        "image": image,
        "resources": RESOURCES | NUMBERS,
    }


def _words(name: str) -> str:
    """Ninety letters that stand for a sentence about a stage."""
    return hashlib.sha512(name.encode()).hexdigest()[:90]


def _kubernetes(task: str) -> Spec:
    def of(kind: str, name: str, keys: str) -> Spec:
        pairs = [{f"{kind}Key": key, "envVar": key} for key in keys.split()]
        parameter = {"runtimeValue": {"constant": name}}
        return {f"{kind}Name": name, f"{kind}NameParameter": parameter, "keyToEnv": pairs, "optional": True}

    mlflow = "MLFLOW_TRACKING_USERNAME MLFLOW_TRACKING_PASSWORD"
    config = "AWS_ENDPOINT_URL_S3 AWS_REGION SELFLOOP_KFP_ENDPOINT"
    return {
        "configMapAsEnv": [
            of("configMap", "selfloop-config", "MLFLOW_TRACKING_URI SELFLOOP_STORE"),
            of("configMap", "selfloop-config", config),
        ],
        "emptyDirMounts": [{"mountPath": "/tmp", "volumeName": "scratch"}],
        "imagePullPolicy": "IfNotPresent",
        "pvcMount": [
            {
                "constant": "selfloop-models",
                "mountPath": "/var/cache/selfloop",
                "pvcNameParameter": {"runtimeValue": {"constant": "selfloop-models"}},
            }
        ],
        "secretAsEnv": [
            of("secret", "selfloop-s3", "AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY"),
            *(
                [of("secret", "selfloop-mlflow", mlflow)]
                if task.startswith(("resolve", "start", "promote", "round"))
                else []
            ),
            *([of("secret", "selfloop-hub", "HF_TOKEN")] if task.startswith(("start", "propose", "round")) else []),
        ],
        "securityContext": {"runAsNonRoot": True},
    }
