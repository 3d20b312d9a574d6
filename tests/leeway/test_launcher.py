"""Every process of ``leeway up`` really sees the GPUs that the layout gives it, at every start."""

import json
import sys
from pathlib import Path

import pytest
from leeway_rl.common.config import compose
from leeway_rl.common.errors import ConfigError
from leeway_rl.common.service import GOODBYE_S
from leeway_rl.leeway.evaluating.sampling import Asking, configuration, refuse_model
from leeway_rl.leeway.running import launcher
from leeway_rl.leeway.running.learner import Node
from leeway_rl.leeway.running.supervise import SLACK_S, mend

from tests.gpus import uuid, with_gpus

RECORDER = "import json, os, sys; print(json.dumps(dict(os.environ)), flush=True); sys.exit(1)"
FOUR = ["rollout.engine=vllm", "rollout.workers=2", "train.ranks=2", "train.zero_stage=1"]


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Makes this machine one with so many GPUs, of which ``visible`` may be used (None: all)."""

    def make(number, visible=None):
        monkeypatch.setenv("PATH", with_gpus(tmp_path / "bin", number))
        monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    return make


def seen(config, tmp_path, starts=1):
    """The environments that the processes of ``leeway up`` start with, by name; of each the last of its starts."""
    (tmp_path / "run/logs").mkdir(parents=True)
    roles = launcher.roles(config, "run", tmp_path, launcher.seats(config))
    found = {}
    for role in roles:
        role.command = [sys.executable, "-c", RECORDER]
        role.start()
        role.process.wait()
        for _ in range(starts - 1):
            mend(role, None, 0)
            role.process.wait()
        said = role.log.read_text().splitlines()
        assert len(said) == starts
        found[role.name] = json.loads(said[-1])
    return found


def test_each_process_has_its_own_gpus_and_the_verifiers_none(machine, tmp_path):
    machine(4)
    found = seen(compose(["tiny"], FOUR), tmp_path)
    assert {name: each["CUDA_VISIBLE_DEVICES"] for name, each in found.items()} == {
        "learner": "0,1",
        "rollout-0": "2",
        "rollout-1": "3",
        "verifier-0": "",
    }
    assert {each["CUDA_DEVICE_ORDER"] for each in found.values()} == {"PCI_BUS_ID"}  # the numbers are nvidia-smi's


def test_a_process_that_is_started_again_has_the_same_gpus(machine, tmp_path):
    machine(4)
    found = seen(compose(["tiny"], FOUR), tmp_path, starts=3)
    assert [found[name]["CUDA_VISIBLE_DEVICES"] for name in ("learner", "rollout-0", "rollout-1")] == ["0,1", "2", "3"]


def test_of_gpus_that_the_variable_names_each_process_has_some_under_the_same_names(machine, tmp_path):
    machine(8, f"6,4,{uuid(1)},GPU-00000003")
    found = seen(compose(["tiny"], FOUR), tmp_path)
    assert {name: each["CUDA_VISIBLE_DEVICES"] for name, each in found.items()} == {
        "learner": "6,4",
        "rollout-0": uuid(1),
        "rollout-1": uuid(3),
        "verifier-0": "",
    }
    assert not any("CUDA_DEVICE_ORDER" in each for each in found.values())  # the user's numbers mean what they meant


def test_a_worker_may_share_the_learner_s_gpu(machine, tmp_path):
    machine(1)
    config = compose(["skywork-or1-1.5b-one-gpu"], ["verifier.workers=2"])
    found = seen(config, tmp_path)
    assert [each["CUDA_VISIBLE_DEVICES"] for each in found.values()] == ["0", "0", "", ""]


def test_without_gpus_nothing_is_set(machine, tmp_path):
    machine(0)
    found = seen(compose(["tiny"], []), tmp_path)
    assert set(found) == {"learner", "rollout-0", "verifier-0"}
    assert not any("CUDA_VISIBLE_DEVICES" in each or "CUDA_DEVICE_ORDER" in each for each in found.values())


def test_a_name_that_the_machine_does_not_have_is_refused(machine):
    machine(2, "0,7")
    with pytest.raises(ConfigError, match="CUDA_VISIBLE_DEVICES = '0,7': this machine has no GPU '7'"):
        launcher.seats(compose(["tiny"], []))


def test_only_what_the_variable_leaves_counts(machine):
    machine(8, "0,1,2")
    with pytest.raises(ConfigError, match=r"this machine has 3, of which the learner has 2; rollout.workers = 1 fits"):
        launcher.seats(compose(["tiny"], FOUR))
    assert "this machine has 3" in launcher.why_not_here(compose(["tiny"], FOUR))


def test_workers_alone_have_gpus_of_their_own(machine):
    machine(4)
    places = launcher.worker_seats(compose(["tiny"], ["rollout.engine=vllm", "rollout.tensor_parallel=2"]), 2)
    own = [places.environment(name)["CUDA_VISIBLE_DEVICES"] for name in ("rollout-0", "rollout-1", "collector")]
    assert own == ["0,1", "2,3", ""]


def test_several_ranks_are_started_by_torchrun_and_one_is_not():
    words = ["--run", "mine"]
    assert launcher.learner_command(words, 1, drain_s=60)[1:] == ["-m", "leeway_rl.learner", *words]
    alone = " ".join(launcher.learner_command(words, 4, drain_s=60)[1:])
    assert alone == (
        "-m leeway_rl.learner.torchrun --standalone --shutdown-timeout 65 --nproc-per-node 4 -m -- leeway_rl.learner "
        "--run mine"
    )
    second = " ".join(launcher.learner_command(words, 1, drain_s=60, nodes=2, node=1, first="host-a")[1:])
    assert second == (
        "-m leeway_rl.learner.torchrun --nnodes 2 --node-rank 1 --master-addr host-a --master-port 29500 "
        "--shutdown-timeout 65 --nproc-per-node 1 -m -- leeway_rl.learner --run mine"
    )
    assert "--master-addr fd00::7 --master-port 777" in " ".join(
        launcher.learner_command(words, 1, drain_s=60, nodes=2, first="[fd00::7]:777")
    )


def test_torchrun_leaves_the_ranks_their_drain_time_and_is_not_killed_itself():
    config = compose(["tiny"], ["train.ranks=2", "broker.drain_s=200.5"])
    (learner, *_) = launcher.roles(config, "mine", Path("runs"), launcher.seats(config))
    given = int(learner.command[learner.command.index("--shutdown-timeout") + 1])
    assert 200.5 + GOODBYE_S < given < 200.5 + SLACK_S


def test_a_node_of_the_learner_has_its_part_of_the_ranks_or_is_refused(machine):
    machine(4)
    places, ranks = launcher.learner_seats(compose(["tiny"], ["train.ranks=8", "placement.learner=gpu"]), 2)
    assert (ranks, places.environment("learner")["CUDA_VISIBLE_DEVICES"]) == (4, "0,1,2,3")
    with pytest.raises(ConfigError, match=r"train.ranks = 5 asks for 5 GPUs; this machine has 4.*a node's part of 2"):
        launcher.learner_seats(compose(["tiny"], ["train.ranks=10", "placement.learner=gpu"]), 2)
    with pytest.raises(ConfigError, match=r"--nodes 3 does not divide train.ranks = 8"):
        launcher.learner_seats(compose(["tiny"], ["train.ranks=8"]), 3)


def test_sampling_is_refused_more_workers_than_there_are_gpus_for(machine, tmp_path, tiny_model):
    machine(1)
    asking = Asking(
        engine="vllm",
        temperature=1.0,
        top_p=1.0,
        max_tokens=8,
        max_prompt_tokens=8,
        seed=0,
        workers=2,
        redis_url=None,
        run=None,
        settings=[],
        anew=False,
    )
    config = configuration(tmp_path / "problems.jsonl", str(tiny_model), tmp_path, 2, asking)
    with pytest.raises(ConfigError, match=r"rollout.workers = 2 .*this machine has 1; rollout.workers = 1 fits"):
        refuse_model("sample", config, asking)


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (Node(nodes=2, node=3, first="a"), "--node 3 of --nodes 2: nodes are counted from 1 to 2"),
        (Node(nodes=2, node=1, first=None), "--nodes 2 needs --first-node"),
    ],
)
def test_nodes_that_cannot_find_each_other_are_refused(node, words):
    with pytest.raises(ConfigError, match=words):
        node.refuse_impossible()


def test_what_a_dry_run_would_be_refused_is_said_under_it():
    from leeway_rl.leeway.running.dry_run import whole

    said = whole(compose(["skywork-or1-7b"], []))
    assert "# leeway up would refuse this here: train.ranks = 4 asks for 4 GPUs; this machine has none" in said
    with pytest.raises(ConfigError, match="tensor_parallel = 3 does not divide its 40 attention heads"):
        whole(compose(["skywork-or1-32b"], ["rollout.tensor_parallel=3"]))
