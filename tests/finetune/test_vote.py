from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from selfloop.finetune.online.params import ReinforceParams
from selfloop.finetune.online.rewards import Attempts, Reward, RewardContext
from selfloop.records import Rollout, Task

SAID = st.lists(st.tuples(st.sampled_from(["3", "7", "12", ""]), st.booleans()), min_size=1, max_size=9)


@given(st.lists(SAID, min_size=1, max_size=3))
def test_an_attempt_is_worth_1_where_most_at_its_task_say_the_same(groups: list[list[tuple[str, bool]]]) -> None:
    tasks = [Task(f"t{number}", 1, "", "1+2=", "3") for number in range(len(groups))]
    rollouts = [
        Rollout(task.id, 1, number, task.prompt, text, finished, 2)
        for task, group in zip(tasks, groups, strict=True)
        for number, (text, finished) in enumerate(group)
    ]
    context = RewardContext("arithmetic:plain", ReinforceParams(), 1, 8)
    given = iter(Reward.parse("vote")(Attempts(0, tasks, rollouts, context)))
    for group in groups:
        there = Counter(text for text, finished in group if finished and text)
        rewarded = {(text, finished) for text, finished in group if next(given)}
        if not there:
            assert not rewarded
            continue
        [(won, finished)] = rewarded
        assert finished
        assert there[won] == max(there.values())
