"""The delay line gives what went in so many versions ago, also after a resume."""

import torch
from leeway_rl.common.tensors import flatten, tensors_of
from leeway_rl.learner.delay import DelayLine


def weights(version, dtype="bfloat16"):
    return flatten({"w": torch.full((3, 2), float(version)), "b": torch.tensor([version + 0.5])}, dtype)


def test_it_gives_what_went_in_so_many_versions_ago():
    delay = DelayLine(2)
    assert [delay.push(version, weights(version))[0] for version in range(5)] == [0, 0, 0, 1, 2]


def test_without_a_lag_it_is_a_pipe():
    newest = weights(7)
    assert DelayLine(0).push(7, newest) == (7, newest)


def test_a_checkpoint_holds_what_is_in_it(tmp_path):
    delay = DelayLine(2)
    for version in range(5):
        delay.push(version, weights(version))
    delay.snapshot()(tmp_path)
    resumed = DelayLine(2)
    resumed.load(tmp_path, 4, "bfloat16")
    for version, expected in ((4, 2), (5, 3), (6, 4)):
        found, given = resumed.push(version, weights(version))
        assert (found, given.infos) == (expected, weights(expected).infos)
        assert torch.equal(tensors_of(given)["b"], tensors_of(weights(expected))["b"])


def test_in_the_first_steps_a_checkpoint_holds_what_there_is(tmp_path):
    delay = DelayLine(4)
    delay.push(0, weights(0))
    delay.push(1, weights(1))
    delay.snapshot()(tmp_path)
    resumed = DelayLine(4)
    resumed.load(tmp_path, 1, "bfloat16")
    assert resumed.push(1, weights(1))[0] == 0


def test_what_a_checkpoint_writes_later_is_what_was_held_when_it_was_taken(tmp_path):
    delay, gathered = DelayLine(1), weights(0)
    delay.push(0, gathered)
    delay.push(1, weights(1))
    write = delay.snapshot()
    gathered.buffer[:] = weights(2).buffer  # version 2 is gathered where version 0 lay
    write(tmp_path)
    resumed = DelayLine(1)
    resumed.load(tmp_path, 1, "bfloat16")
    found, given = resumed.push(1, weights(1))
    assert found == 0
    assert torch.equal(tensors_of(given)["b"], tensors_of(weights(0))["b"])
