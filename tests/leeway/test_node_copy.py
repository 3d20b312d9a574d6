"""The desk tells of this machine's copy of a run's weights, and removes what nobody uses any more."""

import json
import shutil

import pytest
from leeway_rl.common.config import compose, dump
from leeway_rl.common.types import TensorInfo
from leeway_rl.common.weights import FlatWeights, NodeCopy, WeightPublisher, WeightReader
from leeway_rl.leeway.looking import status
from leeway_rl.leeway.running.clean import clean

INFOS = (TensorInfo(name="a", dtype="bfloat16", shape=(512, 4)),)


@pytest.fixture
def worker(bus, redis_url, tmp_path):
    """The copy of the one worker of a node that holds version 7."""
    import numpy as np

    bus.learner.record.store_config(dump(compose(["tiny"], [f"weights.node_folder={str(tmp_path)!r}"])))
    publisher = WeightPublisher(bus.learner.weights, incarnation=1, transport="redis")
    publisher.publish(7, FlatWeights(INFOS, np.zeros(4096, np.uint8)))
    copy = NodeCopy(redis_url, bus.learner.run, worker="w", folder=tmp_path)
    WeightReader(bus.learner.weights, worker="w", copy=copy).fetch()
    yield copy
    copy.leave()


def test_status_says_where_the_copy_is_what_it_takes_and_who_uses_it(worker, bus, redis_url, capsys):
    status.show(redis_url, bus.learner.run, as_json=False)
    said = " ".join(capsys.readouterr().out.split())
    assert f"weights on this machine: {worker.path}, version 7, " in said
    assert "1 rollout worker" in said
    status.show(redis_url, bus.learner.run, as_json=True)
    node = json.loads(capsys.readouterr().out)["node"]
    assert (node["path"], node["version"], node["workers"]) == (str(worker.path), 7, 1)
    assert node["bytes"] >= 4096
    worker.leave()
    status.show(redis_url, bus.learner.run, as_json=True)
    assert json.loads(capsys.readouterr().out)["node"] is None


def test_clean_removes_a_copy_that_nobody_uses_and_leaves_one_in_use(worker, bus, redis_url, capsys, tmp_path):
    path = worker.path
    clean(redis_url, bus.learner.run, force=True)
    assert path.exists()
    shutil.copytree(path, tmp_path / "kept")
    worker.leave()
    (tmp_path / "kept").rename(path)  # as after SIGKILL: the locks are gone, and the folder stays
    path.chmod(0o700)
    clean(redis_url, bus.learner.run, force=True)
    assert "the copy of the weights on this machine" not in capsys.readouterr().out
    bus.learner.record.store_config(dump(compose(["tiny"], [f"weights.node_folder={str(path.parent)!r}"])))
    clean(redis_url, bus.learner.run, force=True)
    assert f"is removed ({path})" in capsys.readouterr().out
    assert not path.exists()
