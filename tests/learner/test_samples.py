"""What becomes of groups as text: which are drawn, what a line has, and that the file is bounded and a view alone."""

import logging
import resource
import threading
from dataclasses import replace

import numpy as np
import pytest
from leeway_rl.common.config import compose
from leeway_rl.common.samples import FILE, read_samples
from leeway_rl.common.types import Verdict, VerdictKind
from leeway_rl.learner import samples as module
from leeway_rl.learner.packing import ScoredGroup
from leeway_rl.learner.samples import SampleFile, Samples, bounded, drawn, line_of, sample_of, staleness
from transformers import AutoTokenizer

from tests.samples import a_ticket, some_responses, two_turns

VERDICTS = (
    Verdict(kind=VerdictKind.CORRECT, reason="equal as written", seconds=0.01),
    Verdict(kind=VerdictKind.WRONG, reason="answered 19", seconds=0.01),
)
LIMIT = 1_000_000


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture
def group_of(tokenizer):
    """A group of two responses, ``7</s>`` and ``19`` (truncated), of versions 3 and 4."""

    def make(number=7, times=1):
        texts = [tokenizer("7", add_special_tokens=False)["input_ids"] * times + [tokenizer.eos_token_id]]
        texts.append(tokenizer("19", add_special_tokens=False)["input_ids"] * times)
        lengths = [len(text) for text in texts]
        spans = [[0, 3, 0, lengths[0]], [1, 3, 0, 1], [1, 4, 1, lengths[1]]]
        ticket = a_ticket(number, prompt_tokens_P=np.array(tokenizer("4+3=", add_special_tokens=False)["input_ids"]))
        responses = some_responses(
            ticket,
            tokens_T=np.concatenate(texts).astype(np.uint16),
            lengths_S=np.array(lengths, np.uint32),
            finished_S=np.array([1, 0], np.uint8),
            spans=np.array(spans, np.uint32),
        )
        return ScoredGroup(ticket=ticket, responses=responses, rewards_S=np.array([1, 0], np.float32))

    return make


@pytest.fixture
def begin(tmp_path):
    """Start the writer on a run of four groups a step, of which two are drawn every other step; ends it."""
    begun = []

    def start(*settings, from_step=0):
        own = ["train.groups_per_step=4", "metrics.samples_every=2", "metrics.samples_groups=2", *settings]
        begun.append(Samples(tmp_path, compose(["tiny"], own), from_step=from_step))
        return begun[-1]

    yield start
    for each in begun:
        each.close()


def pass_through(samples, groups, *, step=0, outcome="trained"):
    for group in groups:
        samples.graded(group, VERDICTS)
        samples.left(group.ticket.ticket, step, outcome)


def test_a_line_has_who_wrote_what_the_rewards_by_name_the_verdict_and_the_age(group_of, tokenizer):
    sample = sample_of(group_of(), VERDICTS, tokenizer, step=5, outcome="trained", place=0)
    assert [(segment.by, segment.text) for segment in sample.prompt] == [("prompt", "4+3=")]
    first, second = sample.responses
    assert [(segment.by, segment.text) for segment in first.segments] == [("policy", f"7{tokenizer.eos_token}")]
    assert (first.rewards, first.verdict, first.reason, first.finished) == (
        {"reward": 1.0},
        "correct",
        "equal as written",
        True,
    )
    assert (second.rewards, second.finished, second.staleness) == ({"reward": 0.0}, False, {"mean": 1.5, "max": 2.0})
    assert (sample.gold, sample.step, sample.ticket, sample.prompt_id) == (("4",), 5, 7, "made-up:1")


def test_a_conversation_has_a_segment_for_each_that_spoke(tokenizer):
    ticket = a_ticket(prompt_tokens_P=np.array([3], np.uint32))
    group = ScoredGroup(ticket=ticket, responses=two_turns(ticket), rewards_S=np.array([1, 0], np.float32))
    sample = sample_of(group, VERDICTS, tokenizer, step=1, outcome="trained", place=0)
    first, second = sample.responses
    assert [(each.by, each.tokens) for each in first.segments] == [("policy", 2), ("environment", 2), ("policy", 2)]
    assert [each.text for each in first.segments] == [tokenizer.decode(pair) for pair in ([1, 2], [8, 9], [3, 4])]
    assert (first.tokens, first.observed, first.turns) == (4, 2, 2)
    assert (second.tokens, second.observed, second.turns) == (2, 0, 1)
    assert first.staleness == {"mean": 1.0, "max": 1.0}


def test_weights_that_are_ahead_of_the_step_they_sample_for_are_not_older_than_it(group_of):
    assert staleness(group_of().responses.spans, 1, 3) == {"mean": 0.0, "max": 0.0}


def test_the_draw_is_by_seed_and_ticket_alone_and_not_of_the_first():
    lots = [sorted(drawn(0, place, 1000, 100, 3)) for place in range(200)]
    assert all(1000 * place <= number < 1000 * place + 100 for place, lot in enumerate(lots) for number in lot)
    assert all(len(lot) == 3 for lot in lots)
    assert 40 < np.mean([number % 1000 for lot in lots for number in lot]) < 60
    assert drawn(0, 7, 1000, 100, 3) != drawn(1, 7, 1000, 100, 3)
    assert drawn(0, 5, 4, 2, 16) == {20, 21}


def test_drawn_groups_are_written_whether_they_were_trained_or_refunded(begin, group_of, tmp_path):
    samples = begin()
    pass_through(samples, [group_of(number) for number in range(4)], step=0)
    pass_through(samples, [group_of(number) for number in range(4, 12)], step=1, outcome="zero_advantage")
    samples.left(99, 1, "poison")  # never graded
    samples.close()
    found = list(read_samples(tmp_path / FILE))
    assert [each.ticket for each in found] == sorted(drawn(0, 0, 8, 4, 2)) + sorted(drawn(0, 1, 8, 4, 2))
    assert [(each.step, each.outcome) for each in found] == 2 * [(0, "trained")] + 2 * [(1, "zero_advantage")]


def test_a_resume_takes_out_what_was_rolled_back_and_writes_no_step_twice(begin, group_of, tmp_path):
    first = begin()
    for step in range(3):
        pass_through(first, [group_of(number) for number in range(8 * step, 8 * step + 8)], step=step)
    first.close()
    with (tmp_path / FILE).open("a") as file:
        file.write('{"step": 1, "torn')
    second = begin(from_step=1)
    for step in range(1, 3):
        pass_through(second, [group_of(number) for number in range(8 * step, 8 * step + 8)], step=step)
    second.close()
    assert [each.step for each in read_samples(tmp_path / FILE)] == [0, 0, 1, 1, 2, 2]
    assert "torn" not in (tmp_path / FILE).read_text()


def made(group_of, tokenizer, place, times=1):
    return sample_of(group_of(place, times), VERDICTS, tokenizer, step=place, outcome="trained", place=place)


def test_the_file_is_never_larger_than_its_limit_and_what_stays_is_spread_over_the_run(group_of, tokenizer, tmp_path):
    path = tmp_path / FILE
    one = made(group_of, tokenizer, 0, times=100)
    limit = 20 * len(line_of(one))
    file = SampleFile(path, limit, from_step=0)
    for place in range(300):
        assert file.write(replace(one, place=place, step=place))
        assert path.stat().st_size <= limit
    places = [each.place for each in read_samples(path)]
    assert places == list(range(0, 300, file.thinned))
    assert 8 < len(places) <= 20
    again = SampleFile(path, limit, from_step=300)
    assert again.thinned == file.thinned > 1
    assert [each.place for each in read_samples(path)] == places


def test_a_group_that_would_not_fit_has_its_texts_cut_in_the_middle_with_the_count(group_of, tokenizer):
    sample = made(group_of, tokenizer, 0, times=2000)
    small = bounded(sample, 3000)
    assert len(line_of(small)) <= 3000
    text = small.responses[1].segments[0]
    assert text.text.startswith("1919")
    assert text.text.endswith("1919")
    assert f"[… {text.left_out:,} characters left out …]" in text.text
    assert text.left_out + len(text.text) - len(f"[… {text.left_out:,} characters left out …]") == 4000
    assert text.tokens == sample.responses[1].segments[0].tokens
    assert bounded(sample, 100) is None


def test_a_disk_without_room_costs_lines_and_nothing_else(group_of, tokenizer, tmp_path):
    path, one = tmp_path / FILE, made(group_of, tokenizer, 0)
    file = SampleFile(path, LIMIT, from_step=0)
    assert file.write(one)
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            file.write(replace(one, place=1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert file.write(replace(one, place=2))
    assert [each.place for each in read_samples(path)] == [0, 2]


def threads():
    return {thread.name for thread in threading.enumerate()}


def test_a_full_disk_is_warned_of_once_and_the_writer_goes_on(begin, group_of, tmp_path, caplog):
    samples = begin()
    (tmp_path / FILE).symlink_to("/dev/full")
    with caplog.at_level(logging.WARNING):
        pass_through(samples, [group_of(number) for number in range(16)])
        for number in range(16):
            samples.graded(
                group_of(number), ()
            )  # what cannot be made text of, for want of verdicts, ends nothing either
            samples.left(number, 0, "trained")
        assert "samples" in threads()
        samples.close()
    assert "samples" not in threads()
    told = [record.getMessage() for record in caplog.records if record.name == module.__name__]
    assert len(told) == 1
    assert "No space left on device" in told[0]
