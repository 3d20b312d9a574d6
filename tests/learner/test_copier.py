"""The learner hands a checkpoint over and goes on: a slow place costs no step, and one that fails costs the run
nothing."""

import logging
import threading

import pytest
from leeway_rl.common.config import compose
from leeway_rl.common.elsewhere.copies import copies_at
from leeway_rl.common.elsewhere.place import Place
from leeway_rl.learner import copier as module
from leeway_rl.learner.copier import Copier, CopyProcess

from tests.elsewhere import Run


@pytest.fixture
def run(tmp_path):
    made = Run(tmp_path / "runs" / "my-run")
    for step in (2, 4, 6, 8):
        made.checkpoint(step)
    return made


@pytest.fixture
def config(tmp_path):
    return compose(["tiny"], [f"checkpoints.copy_to={tmp_path / 'elsewhere'}"])


class Slow:
    """What copies to a place that answers only when it is let go on."""

    def __init__(self, *answers):
        self.asked, self.go_on, self.answers = [], threading.Semaphore(0), list(answers)

    def copy(self, order):
        self.asked.append(order.step)
        self.go_on.acquire()
        return self.answers.pop(0) if self.answers else ({"bytes": 1, "unremoved": ""}, "")

    def end(self):
        self.go_on.release(99)


def hand(copier, run, step):
    copier.hand(run.folder / "checkpoints" / f"step-{step:06d}", 1, run.line_of(step))


def test_a_hand_over_only_queues_and_the_newest_takes_the_place_of_those_that_wait(config, run, wait_until, caplog):
    place = Slow()
    copier = Copier(config, run.folder, place)
    hand(copier, run, 2)
    wait_until(lambda: place.asked == [2], "the first is being copied")
    hand(copier, run, 4)
    hand(copier, run, 6)
    hand(copier, run, 8)  # each returned although nothing has been copied
    assert sorted(path.name for path in copier.in_use()) == ["step-000002", "step-000008"]
    assert copier.measured()["checkpoint/copied_version"] == -1
    assert "that of step 4 is left out" in caplog.text
    assert "step 6 is left out there" in copier.trouble
    assert not copier.ended(0.0)
    place.go_on.release(2)
    assert copier.ended(20.0)
    assert place.asked == [2, 8]
    assert copier.measured()["checkpoint/copied_version"] == 8
    assert (copier.trouble, list(copier.in_use())) == ("", [])
    copier.close()


def test_a_place_that_fails_is_tried_again_with_a_bound_said_once_and_forgotten_when_it_answers(
    config, run, monkeypatch, caplog
):
    monkeypatch.setattr(module, "PAUSE_S", 0.0)
    place = Slow(*[(None, "s3://a:b@c/x?sig=1: it is full")] * 3)
    copier = Copier(config, run.folder, place)
    place.go_on.release(99)
    with caplog.at_level(logging.WARNING):
        hand(copier, run, 2)
        assert copier.ended(20.0)
        assert place.asked == [2, 2, 2]
        assert copier.measured()["checkpoint/copies_failed"] == 3
        assert copier.trouble.endswith("/my-run: s3://***@c/x?*** it is full; there is no copy of this start")
        assert caplog.text.count("checkpoints are not copied") == 1
        hand(copier, run, 4)
        assert copier.ended(20.0)
    assert copier.trouble == ""
    assert "checkpoints are copied again" in caplog.text
    copier.close()


def test_a_newer_checkpoint_is_tried_in_the_place_of_one_that_failed(config, run, wait_until):
    place = Slow((None, "no"))
    copier = Copier(config, run.folder, place)
    hand(copier, run, 2)
    wait_until(lambda: place.asked == [2], "the first is being copied")
    hand(copier, run, 4)
    place.go_on.release(2)
    assert copier.ended(20.0)
    assert place.asked == [2, 4]
    copier.close()


def test_the_process_makes_the_copy_and_tells_what_went_wrong_in_its_own_words(config, run, tmp_path):
    process = CopyProcess()
    done, why = process.copy(run.order(str(tmp_path / "elsewhere"), 2))
    assert (done["unremoved"], why) == ("", "")
    assert [each.step for each in copies_at(Place(f"{tmp_path / 'elsewhere'}/my-run"))[0]] == [2]
    (run.folder / "checkpoints" / "step-000004" / "policy" / "weights.pt").write_bytes(b"changed")
    done, why = process.copy(run.order(str(tmp_path / "elsewhere"), 4))
    assert done is None
    assert "policy/weights.pt are not those that were written" in why
    process.end()
    assert process.copy(run.order(str(tmp_path / "elsewhere"), 6)) == (None, "the learner ends")


def test_a_learner_that_ends_does_not_wait_for_a_place_that_hangs(config, run, wait_until):
    process = CopyProcess(["/bin/sleep", "600"])
    copier = Copier(config, run.folder, process)
    hand(copier, run, 2)
    wait_until(lambda: process.process is not None, "the process is there")
    copier.close()
    assert process.process.poll() is not None
    assert copier.trouble == ""
