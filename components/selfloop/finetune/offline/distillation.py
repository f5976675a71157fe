"""``distill_policy``: a student learns the distribution of a teacher on its own completions, on TRL's trainer.

On-policy distillation (Agarwal et al., arXiv:2306.13649): the student answers, the teacher tells what it would have
said at every token, and ``beta`` chooses the divergence between the two.
"""

from __future__ import annotations

from typing import NamedTuple

from kfp.dsl import Dataset, Model
from pydantic import Field

from selfloop.errors import UserError
from selfloop.finetune.online.sampling import OnPolicyParams, asked, refuse_scheme, uncontaminated
from selfloop.finetune.running.dispatch import run_training
from selfloop.finetune.running.launch import Job, TrainingResult, is_first
from selfloop.policy import Policy, load
from selfloop.resources import Resources
from selfloop.seeds import seed_for
from selfloop.stages import stage


class DistillParams(OnPolicyParams):
    """How a student is held to a teacher."""

    beta: float = Field(1.0, ge=0, le=1, description="The divergence, from the forward KL (0) to the reverse KL (1).")


class DistilledPolicy(NamedTuple):
    """The policy trained."""

    candidate: Model


@stage(image="finetune", resources=Resources(cpu="2", memory="4Gi"))
def distill_policy(
    out: DistilledPolicy, params: DistillParams, policy: Model, teacher: Model, tasks: Dataset, eval_items: Dataset
) -> None:
    """Let a policy answer tasks and learn at each token what a teacher with the same vocabulary would have said."""
    run_training(
        work, params, {"policy": policy, "teacher": teacher, "tasks": tasks, "eval_items": eval_items}, out.candidate
    )


def work(params: DistillParams, job: Job) -> TrainingResult:
    """Train on the tasks that are no held-out items, and save the candidate."""
    from trl import DistillationConfig

    from selfloop.finetune.offline.distillation_trainer import Distillation, TaskSource
    from selfloop.finetune.running.speed import speed
    from selfloop.finetune.running.training import Plan, fit, processes
    from selfloop.finetune.running.weights import keep, to_train

    clean = uncontaminated(job.inputs["tasks"], job.inputs["eval_items"], params.ngram)
    if not clean.tasks:
        raise clean.none_left()
    made, guide = to_train(params, job.inputs["policy"]), load(job.inputs["teacher"])
    refuse_scheme(made)
    refuse_scheme(guide)
    check_vocabularies(made, guide)
    plan = Plan.of(params, seed_for(params, params.round, "distill"), job.place, params.steps)
    trainer = Distillation(
        model=made.model.train(),
        teacher_model=guide.model.requires_grad_(False),
        args=DistillationConfig(**plan.arguments(), **params.drawing(), beta=params.beta),
        train_dataset=asked(clean.tasks),
        processing_class=made.tokenizer,
    )
    trainer.policy = made
    trained = fit(trainer, plan, TaskSource(clean.tasks))
    if is_first():
        keep(params, made, job.inputs["policy"], trained, job.output)
    about = clean.counts() | {"steps": trained.steps, "loss": trained.loss, "method": "distillation"}
    rate = speed(trainer.state.num_input_tokens_seen, trained.seconds, made.model.num_parameters(), processes())
    return TrainingResult(about, rate)


def check_vocabularies(student: Policy, teacher: Policy) -> None:
    """Refuse a teacher whose tokens are not the student's."""
    sizes = [each.model.get_output_embeddings().weight.shape[0] for each in (student, teacher)]
    if student.tokenizer.get_vocab() != teacher.tokenizer.get_vocab() or sizes[0] != sizes[1]:
        raise UserError(
            f"Teacher and student have different vocabularies ({sizes[1]} and {sizes[0]} tokens): choose two policies "
            "of one family, or train on the teacher's rollouts with finetune_policy."
        )
