"""Ten mistakes in calls of stages, each on a line that names the error; ``test_mistakes.py`` has mypy find them."""

from kfp.dsl import Dataset, Model
from selfloop.evaluate import EvaluateParams, evaluate_policies
from selfloop.generate import GenerateParams, generate_rollouts
from selfloop.generate.generate import JoinParams, join_rollouts


def right(params: GenerateParams, policy: Model, tasks: Dataset) -> Dataset:
    """No mistake: what is made of two throws, joined."""
    first = generate_rollouts(params, policy=policy, tasks=tasks).rollouts
    (second,) = generate_rollouts(params, policy, tasks)
    return join_rollouts(JoinParams(), parts=[first, second]).joined


def wrong(params: GenerateParams, policy: Model, tasks: Dataset) -> None:
    """Ten mistakes."""
    generate_rollouts(params, policy=policy, task=tasks)  # call-arg: a typo in an input
    generate_rollouts(params, policy=tasks, tasks=tasks)  # arg-type: a table for a policy
    str(generate_rollouts(params, policy=policy, tasks=tasks).rollout)  # attr-defined: a typo in an output
    generate_rollouts(params, policy=policy)  # call-arg: a missing input
    generate_rollouts(EvaluateParams(), policy=policy, tasks=tasks)  # arg-type: parameters of another stage
    generate_rollouts(params, policy="policies/1", tasks=tasks)  # arg-type: a path for an artifact
    made = generate_rollouts(params, policy=policy, tasks=tasks)
    evaluate_policies(EvaluateParams(), policy, made.rollouts, tasks, tasks)  # arg-type: a table
    generate_rollouts(params, tasks, policy)  # arg-type arg-type: inputs in the wrong order
    generate_rollouts(GenerateParams(temprature=0.5), policy=policy, tasks=tasks)  # call-arg: an unknown parameter
    join_rollouts(JoinParams(), parts=made.rollouts)  # arg-type: one table for a list
