"""Evolution of an archive of texts by a policy that writes variations: parents are chosen by score and novelty.

Nothing is trained: what improves is the archive, a role that is no model. Each round draws parents from it, has a
frozen policy write variations, checks them, and keeps what scores and is new. Zhang et al., "Darwin Goedel Machine"
(arXiv:2505.22954) choose parents so; Lehman et al., "Evolution through Large Models" (arXiv:2206.08896) let a model
write the variations.
"""

from typing import NamedTuple

from kfp.dsl import Artifact, Dataset, Model
from selfloop.evaluate import CompareParams, compare_archives
from selfloop.filter import ExtendParams, extend_archive
from selfloop.finetune import PretrainParams
from selfloop.generate import GenerateParams, generate_rollouts
from selfloop.loop import Improved, LoopSettings, Now, needing, verified
from selfloop.promote import GateParams
from selfloop.propose import ArchiveParams, BaseParams, DrawParams, ParentsParams, choose_parents, init_archive
from selfloop.recipe import Form, Recipe


class Evolve(LoopSettings, rounds=8, environment="sorting-network", schedule="fixed,patience=8"):
    base: BaseParams = BaseParams(levels=3, per_level=5000)
    pretrain: PretrainParams = PretrainParams(steps=800, decay_steps=200)
    archive: ArchiveParams = ArchiveParams(levels=[3])
    parents: ParentsParams = ParentsParams()
    draw: DrawParams = DrawParams(levels=[3], per_level=1, items_per_level=200)
    generate: GenerateParams = GenerateParams(greedy_first=False)
    extend: ExtendParams = ExtendParams()
    compare: CompareParams = CompareParams()
    gate: GateParams = GateParams(require="no-worse", guards=[])  # an archive keeps what it had: it cannot get worse


class State(NamedTuple):
    archive: Artifact
    policy: Model


def start(s: Evolve, policy: Model) -> State:
    return State(init_archive(s.archive).archive, policy)


def improve(s: Evolve, now: Now) -> Improved:
    archive, policy = now.state
    tasks = choose_parents(s.parents, archive).tasks
    attempted = verified(s, generate_rollouts(s.generate, policy, tasks).rollouts, tasks, policy)
    grown = extend_archive(s.extend, archive, tasks, attempted.rollouts, attempted.verdicts).archive
    return Improved(State(grown, policy), attempted)


def compare(s: Evolve, candidate: Artifact, champion: Artifact, eval_items: Dataset) -> Dataset:
    return compare_archives(s.compare, candidate, champion, eval_items).results


recipe = Recipe(
    "evolve",
    Evolve,
    State,
    start,
    improve,
    roles=("archive",),
    frozen=("policy",),
    compare=compare,
    forms={
        "greedy": Form("The best alone has children.", {"parents": {"choice": "best"}}),
        "blind": Form("Every entry alike has children.", {"parents": {"choice": "uniform"}}),
    },
    paper="arXiv:2505.22954",
    needs=needing("variations"),
    control={"parents": {"choice": "uniform"}},
)
