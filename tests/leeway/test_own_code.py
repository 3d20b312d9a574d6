"""A run's own code is loaded once before it starts: what a user's module may do meanwhile, and what is noted of it."""

import re
import sys
import time
from types import ModuleType

import pytest
from leeway_rl.common.config import Environment, compose, dump
from leeway_rl.common.errors import ConfigError
from leeway_rl.common.user_code.secrets import Secrets
from leeway_rl.leeway.running.dry_run import DryRun
from leeway_rl.leeway.running.own_code import settings_with_digests, with_digests
from leeway_rl.leeway.running.up import up
from leeway_rl.rollout.environments import EnvironmentHost
from leeway_rl.rollout.environments.loading import Loader

REWARD = "def f(response, row):\n    return 1.0\n"


@pytest.fixture
def config(tmp_path):
    def with_code(code):
        (tmp_path / "mine.py").write_text(code + REWARD)
        (tmp_path / "preset.toml").write_text('[[rewards]]\nuse = "mine.py:f"\n')
        return compose(["tiny", str(tmp_path / "preset.toml")], [])

    return with_code


@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("import os\nos._exit(0)\n", "rewards: loading its code ended with exit code 0, without an answer"),
        ("print('loading weights')\nimport os\nos._exit(3)\n", "exit code 3, without an answer; last it said: loading"),
        ("import os\nos.kill(os.getpid(), 11)\n", "rewards: loading its code ended with signal 11, without an answer"),
        ("raise KeyboardInterrupt\n", "mine.py:f': KeyboardInterrupt (line 1 of mine.py)"),
        ("import atexit\natexit.register(print, 'bye')\nimport nowhere\n", "No module named 'nowhere' (line 3 of mine"),
        ("import os\nos.write(2, bytes([255, 10]))\nimport nowhere\n", "No module named 'nowhere' (line 3 of mine"),
    ],
)
def test_a_module_that_cannot_be_loaded_is_told_in_one_line(config, code, word):
    with pytest.raises(ConfigError, match=re.escape(word)):
        with_digests(config(code))


def test_other_code_than_the_configuration_says_is_told_before_anything_starts(config):
    begun = with_digests(config("SCALE = 1\n"))
    assert with_digests(begun) == begun
    config("SCALE = 2\n")
    with pytest.raises(ConfigError, match=f"the run was started with {begun.verifier.rewards_digest}"):
        with_digests(begun)
    free = begun.verifier.model_copy(update={"rewards_digest": "any"})
    assert with_digests(begun.model_copy(update={"verifier": free})).verifier.rewards_digest == "any"


def test_a_run_whose_code_has_changed_is_not_resumed(config, tmp_path):
    folder = tmp_path / "runs" / "mine"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(dump(with_digests(config("SCALE = 1\n"))))
    config("SCALE = 2\n")
    with pytest.raises(ConfigError, match="the code of the rewards here has the digest"):
        up("mine", [], [], None, tmp_path / "runs", resume=True, dry=DryRun())


@pytest.mark.parametrize(
    "code",
    [
        "import os\nos.write(2, bytes([255, 10]))\n",
        "import threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()\n",
    ],
)
def test_what_a_module_prints_or_leaves_running_does_not_hold_up_the_start(config, code):
    started = time.monotonic()
    assert with_digests(config(code)).verifier.rewards_digest
    assert time.monotonic() - started < 300


def test_the_digest_of_an_environment_is_the_one_that_a_worker_finds(tmp_path):
    (tmp_path / "beside.py").write_text("SAID = '1'\n")
    code = "from beside import SAID\n\nclass E:\n    def reset(self): pass\n    def step(self, response): return SAID\n"
    (tmp_path / "mine.py").write_text(code)
    (tmp_path / "preset.toml").write_text('[environment]\nuse = "mine.py:E"\n')
    config = compose(["tiny", str(tmp_path / "preset.toml")], [])
    noted = with_digests(config)
    host = EnvironmentHost(noted)
    host.close()
    assert host.described.digest == noted.environment.digest is not None
    (tmp_path / "beside.py").write_text("SAID = '2'\n")
    with pytest.raises(ConfigError, match="the code of the environment here has the digest"):
        with_digests(noted)


def test_an_environment_that_ships_has_no_digest_of_the_user_s():
    config = with_digests(compose(["tiny"], ["environment.use=calculator"]))
    assert config.environment.digest is None


def test_the_program_that_started_this_process_is_none_of_the_user_s_code(tmp_path, monkeypatch):
    """A process that multiprocessing has spawned has it under a name of its own."""
    loader = Loader(Secrets("rollout worker"))
    started = ModuleType("__mp_main__")
    started.__file__ = str(tmp_path / "program.py")
    (tmp_path / "program.py").write_text("")
    monkeypatch.setitem(sys.modules, "__mp_main__", started)
    loader.load(Environment(use="calculator"))
    assert loader.digest() is None


def test_a_program_that_runs_too_long_is_told_so_before_the_clock_of_its_turn_kills_the_tool():
    patient = Environment(use="python", options={"timeout_s": 60.0}, turn_s=61.0)
    for section in (patient.model_copy(update={"turn_s": 60.0}), Environment(use="python", turn_s=5.0)):
        with pytest.raises(ConfigError, match=r"timeout_s .* is not below environment.turn_s = "):
            section.refuse_impossible()
    patient.refuse_impossible()


def test_an_environment_that_cannot_be_loaded_is_told_in_one_line(tmp_path):
    (tmp_path / "mine.py").write_text("import nowhere\n")
    with pytest.raises(
        ConfigError, match=re.escape("mine.py:E': ModuleNotFoundError: No module named 'nowhere' (line 1")
    ):
        with_digests(compose(["tiny"], [f"environment.use={tmp_path}/mine.py:E"]))


def test_a_fork_s_new_loss_has_its_own_digest_and_an_old_one_that_was_edited_is_told(tmp_path):
    source = "def loss(logprobs, advantages):\n    return -(advantages * logprobs)\n"
    for name in ("old", "new"):
        (tmp_path / f"{name}.py").write_text(f"# {name}\n{source}")
    begun = with_digests(compose(["tiny"], [f"objective.loss={tmp_path / 'old.py'}:loss"]))
    kept = tmp_path / "config.toml"
    kept.write_text(dump(begun))
    assert settings_with_digests(kept, ["train.steps=9"]) == ["train.steps=9"]
    change = f"objective.loss={tmp_path / 'new.py'}:loss"
    same, digest = settings_with_digests(kept, [change])
    assert same == change
    assert digest.startswith('objective.loss_digest="')
    assert begun.objective.loss_digest not in digest
    (tmp_path / "old.py").write_text(source)
    with pytest.raises(ConfigError, match=r"code of the loss here has the digest"):
        settings_with_digests(kept, [])


def test_code_beside_a_preset_of_a_mounted_config_map_has_the_path_that_every_pod_has(tmp_path):
    """Kubernetes mounts a folder of links to a folder beside them, which has another name in each pod."""
    (tmp_path / "..2026_11_29").mkdir()
    (tmp_path / "..data").symlink_to("..2026_11_29")
    for name, text in (("mine.py", REWARD), ("preset.toml", '[[rewards]]\nuse = "mine.py:f"\n')):
        (tmp_path / "..2026_11_29" / name).write_text(text)
        (tmp_path / name).symlink_to(f"..data/{name}")
    (reward,) = compose(["tiny", str(tmp_path / "preset.toml")], []).rewards
    assert reward.use == f"{tmp_path}/mine.py:f"
