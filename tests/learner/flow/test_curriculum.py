"""Several sources and difficulty-aware sampling: which ticket asks what, before and after a resume."""

import json
from collections import Counter

import numpy as np
import pytest
from leeway_rl.common.config import compose
from leeway_rl.common.errors import DataError
from leeway_rl.learner.flow.curriculum import Curriculum
from leeway_rl.learner.flow.prompts import Prompt, PromptSource

SIZES = {"sums": 7, "words": 30}


def prompts(name, count):
    return PromptSource(
        [
            Prompt(prompt_id=f"{name}:{n}", tokens_P=np.array([3, n], np.uint32), ability="math", ground_truth=("4",))
            for n in range(1, count + 1)
        ]
    )


def curriculum(rules="", *settings, shares=(0.7, 0.3)):
    sources = [
        f'{{name = "{name}", path = "x", share = {share}{rules}}}' for name, share in zip(SIZES, shares, strict=True)
    ]
    looks = ["flow.reconsider_every=2"] if rules else []
    config = compose(["tiny"], [f"data=[{', '.join(sources)}]", *looks, *settings])
    return Curriculum(config, *(prompts(name, count) for name, count in SIZES.items()))


def ids(drawing, tickets, stage=0):
    return [drawing.ticket(number, stage, min_version=0).prompt_id for number in tickets]


def source(prompt_id):
    return prompt_id.partition(":")[0]


def saw(drawing, number, stage, *rewards):
    drawing.saw(drawing.ticket(number, stage, min_version=0), np.array(rewards, dtype=np.float64))


def test_each_source_goes_through_its_own_passes_by_its_own_count():
    drawn = ids(curriculum(), range(1000))
    counted = Counter(map(source, drawn))
    assert abs(counted["sums"] - 700) < 10
    for name, size in SIZES.items():
        own = [each for each in drawn if source(each) == name]
        for begin in range(0, len(own) - size, size):
            assert len(set(own[begin : begin + size])) == size


def test_a_ticket_is_the_same_whoever_asks_for_it_and_in_whatever_order():
    drawn = ids(curriculum(), range(300))
    assert ids(curriculum(), reversed(range(300))) == drawn[::-1]
    assert ids(curriculum(), [10**9]) == ids(curriculum(), [10**9])


def test_a_stage_changes_the_shares_and_each_source_begins_its_next_pass():
    stages = "stages=[{from_step=5,shares={sums=0.1,words=0.9}}]"
    drawing = curriculum("", stages)
    drawing.open(1, 400)
    before, after = ids(drawing, range(400)), ids(drawing, range(400, 1400), stage=1)
    assert abs(Counter(map(source, after))["words"] - 900) < 10
    for drawn in (before, after):
        words = [each for each in drawn if source(each) == "words"]
        assert all(len(set(words[begin : begin + 30])) == 30 for begin in range(0, len(words) - 30, 30))
    again = curriculum("", stages)
    again.restore(json.loads(json.dumps(drawing.state())))
    assert ids(again, range(400, 600), stage=1) == after[:200]
    assert ids(again, range(400, 600)) == ids(drawing, range(400, 600))


def test_the_online_filter_drops_solved_prompts_of_each_source_but_never_all_of_one():
    stages = "stages=[{from_step=5,online_filter=true}]"
    drawing = curriculum("", stages)
    solved = ids(drawing, range(40))
    for number in range(40):
        saw(drawing, number, 0, 1.0, 1.0)
    words = {each for each in solved if source(each) == "words"}
    assert {each for each in solved if source(each) == "sums"} == {f"sums:{n}" for n in range(1, 8)}
    assert drawing.open(1, 40) == len(words)  # all sums were solved, and none of them is dropped
    later = set(ids(drawing, range(40, 600), stage=1))
    assert len(later) == 7 + 30 - len(words)
    assert not words & later


def test_solved_prompts_are_dropped_at_the_next_look_and_not_before():
    drawing = curriculum(", drop_solved = 1")
    solved = {"sums:3", "words:11"}
    due = ids(drawing, range(300))
    for number in range(100):
        right = due[number] in solved
        saw(drawing, number, 0, 1.0, float(right))
    assert drawing.reconsider(1, 100) is None
    assert ids(drawing, range(100, 300)) == due[100:]
    looked = drawing.reconsider(2, 100)
    assert (looked["ticket"], looked["dropped"], looked["prompts"]) == (100, sorted(solved), 35)
    assert drawing.reconsider(2, 104) is None
    later = ids(drawing, range(100, 300))
    assert not solved & set(later)
    assert [source(each) for each in later] == [source(each) for each in due[100:]]


def test_without_a_rule_nothing_is_looked_at_and_nothing_more_is_kept():
    drawing = curriculum()
    saw(drawing, 0, 0, 1.0, 1.0)
    assert drawing.reconsider(20, 1) is None
    assert set(drawing.state()) == {"dropped", "solved", "mixtures"}
    config = compose(["tiny"], [])
    assert set(Curriculum(config, prompts("p", 3)).state()) == {"dropped", "solved"}


@pytest.mark.parametrize("stop", [3, 10, 57, 58, 119])
def test_a_resume_anywhere_gives_the_same_tickets_across_looks_and_stages(stop):
    """The second learner reads what the first one's checkpoint kept, as JSON, after ``stop`` of 160 tickets."""
    settings = ", drop_solved = 2, prefer_half = 0.2", "stages=[{from_step=4,online_filter=true,shares={words=2}}]"

    def go_on(drawing, begin, end):
        asked = []
        for number in range(begin, end):
            version = number // 20
            drawing.reconsider(version, number)
            stage = int(version >= 4)
            if stage == drawing.stages_open:
                drawing.open(stage, number)
            ticket = drawing.ticket(number, stage, min_version=0)
            row = int(ticket.prompt_id.partition(":")[2])
            asked.append(ticket.prompt_id)
            drawing.saw(ticket, np.array([1.0, row % 3 != 1, 1.0, row % 3 == 0 or number % 2]))
        return asked

    whole = go_on(curriculum(*settings), 0, 160)
    first = curriculum(*settings)
    begun = go_on(first, 0, stop)
    second = curriculum(*settings)
    second.restore(json.loads(json.dumps(first.state())))
    assert begun + go_on(second, stop, 160) == whole
    assert len(set(whole[100:])) < len(set(whole[:80]))  # something was dropped


def test_a_ticket_may_ask_a_prompt_by_its_id_and_one_that_is_gone_is_named():
    drawing = curriculum()
    ticket = drawing.ticket(900, 0, min_version=0, asks="words:3")
    assert (ticket.ticket, ticket.prompt_id, ticket.prompt_tokens_P.tolist()) == (900, "words:3", [3, 3])
    with pytest.raises(DataError, match=r"prompt words:31, .* is not among the rows any more"):
        drawing.ticket(900, 0, min_version=0, asks="words:31")


def test_a_source_s_own_limit_bounds_its_responses():
    config = compose(
        ["tiny"],
        [
            'data=[{name="sums",path="x",max_response_tokens=16},{name="words",path="x"}]',
            "train.max_response_tokens=40",
        ],
    )
    drawing = Curriculum(config, *(prompts(name, count) for name, count in SIZES.items()))
    limits = {(source(t.prompt_id), t.max_new_tokens) for t in (drawing.ticket(n, 0, min_version=0) for n in range(20))}
    assert limits == {("sums", 16), ("words", 40)}


def staged(count, stages="stages=[{from_step=3,online_filter=true}]"):
    source = prompts("p", count)
    return source.prompts, Curriculum(compose(["tiny"], ["flow.seed=5", stages]), source)


def due(kept, number):
    """The prompt of draw ``number`` by the formula of every run so far."""
    epoch, position = divmod(number, len(kept))
    return kept[np.random.default_rng([5, epoch]).permutation(len(kept))[position]].prompt_id


def test_after_a_pass_and_a_half_the_first_nine_tenths_of_a_stage_are_different_prompts():
    rows, drawing = staged(1000, "stages=[{from_step=3},{from_step=9}]")
    assert ids(drawing, range(1500)) == [due(rows, number) for number in range(1500)]
    drawing.open(1, 1500)
    drawn = ids(drawing, range(1500, 3500), stage=1)
    assert len(set(drawn[:900])) == 900
    assert len(set(drawn[:1000])) == len(set(drawn[1000:])) == 1000
    assert drawn == [due(rows, number) for number in range(2000, 4000)]  # pass 1 was begun, so it begins pass 2
    drawing.open(2, 3500)  # at the end of a pass, none is passed over
    assert ids(drawing, range(3500, 4500), stage=2) == [due(rows, number) for number in range(4000, 5000)]
    assert ids(drawing, range(1500, 1600)) == [due(rows, number) for number in range(1500, 1600)]  # the old stage's


@pytest.mark.parametrize("stop", [20, 21, 26, 31, 44])
def test_a_resume_of_a_run_with_stages_gives_the_same_tickets(stop):
    """The checkpoint may lie before, at and after the ticket that the stage begins with, and after it the old stage may
    still be issued."""
    stages = "stages=[{from_step=3,online_filter=true},{from_step=9}]"
    _, whole = staged(9, stages)
    for number in (0, 1):
        saw(whole, number, 0, 1.0, 1.0)
    whole.open(1, 26)
    if stop > 31:
        whole.open(2, 31)
    _, again = staged(9, stages)
    again.restore(json.loads(json.dumps(whole.state())))
    assert again.stages_open == whole.stages_open
    for stage in range(whole.stages_open):
        assert ids(again, range(31, 90), stage) == ids(whole, range(31, 90), stage)
    if whole.stages_open == 2:
        for drawing in (whole, again):
            drawing.open(2, stop + 20)
        assert ids(again, range(stop + 20, 99), 2) == ids(whole, range(stop + 20, 99), 2)


def test_a_stage_that_an_older_leeway_had_opened_goes_on_as_it_began_and_the_next_begins_anew():
    rows, drawing = staged(9, "stages=[{from_step=3,online_filter=true},{from_step=9}]")
    dropped = [rows[2].prompt_id, rows[7].prompt_id]
    kept = [row for row in rows if row.prompt_id not in dropped]
    drawing.restore({"dropped": [dropped], "solved": {}})  # all that its checkpoint keeps
    assert ids(drawing, range(20, 60), stage=1) == [due(kept, number) for number in range(20, 60)]
    drawing.open(2, 60)  # in pass 8 of 7 prompts
    assert ids(drawing, range(60, 90), stage=2) == [due(kept, number) for number in range(63, 93)]
