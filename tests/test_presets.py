"""The shipped presets of the released models, against the report's tables and the released scripts."""

import json
import re
from pathlib import Path

import pytest
from leeway_rl.common.config import PRESETS, compose, preset_names
from leeway_rl.leeway.cli import app
from leeway_rl.leeway.planning.arithmetic import Gpu, describe, shape_of
from leeway_rl.leeway.planning.arithmetic.asked import learner_of
from leeway_rl.leeway.planning.arithmetic.learner import peak
from typer.testing import CliRunner

K = 1024
TABLES = {  # from step, T, D_R, D_T, G; and the last step
    "skywork-or1-math-7b": (  # table 10
        [
            (0, 8 * K, 256, 128, 16),
            (740, 16 * K, 256, 128, 16),
            (1740, 32 * K, 256, 128, 16),
            (2080, 32 * K, 128, 64, 64),
        ],
        2160,
    ),
    "skywork-or1-7b": ([(0, 16 * K, 256, 256, 16), (660, 32 * K, 160, 160, 32)], 1320),  # table 11
    "skywork-or1-32b": ([(0, 16 * K, 256, 256, 16), (760, 24 * K, 160, 160, 32)], 1130),  # table 12
}
SCRIPTS = ["skywork-or1-7b-scripts", "skywork-or1-32b-scripts"]
RELEASED = [*TABLES, *SCRIPTS]


def stages(config):
    trains = [view.train for view in config.views()]
    numbers = [(t.max_response_tokens, t.groups_per_step, t.minibatch_groups, t.group_size) for t in trains]
    return [(start, *row) for start, row in zip(config.stage_starts, numbers, strict=True)]


@pytest.mark.parametrize("name", TABLES)
def test_stages_are_those_of_the_report_s_table(name):
    config = compose([name], [])
    assert (stages(config), config.train.steps) == TABLES[name]
    assert [change.online_filter for change in config.stages] == [True] * len(config.stages)  # report 3.1
    updates = 2 if name == "skywork-or1-math-7b" else 1
    assert {view.train.updates_per_step for view in config.views()} == {updates}


@pytest.mark.parametrize("name", TABLES)
def test_the_rest_is_the_report_s(name):
    config = compose([name], [])
    entropy, objective = config.entropy, config.objective
    assert (entropy.control, entropy.rule, entropy.target, entropy.delta) == ("adaptive", "report", 0.2, 0.005)
    assert (objective.loss, objective.clip_low, objective.clip_high) == ("magic", 0.2, 0.2)
    assert (objective.advantage_mask, objective.kl_beta, config.flow.temperature) == ("none", 0.0, 1.0)
    assert (config.train.learning_rate, config.flow.max_staleness) == (1e-6, 0)
    assert config.data.split == ("math" if "math" in name else "math+code")


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_256_256_16_at_8k_16k_and_32k_with_their_own_entropy_rule(name):
    config = compose([name], [])
    assert [row[1:] for row in stages(config)] == [(length * K, 256, 256, 16) for length in (8, 16, 32)]
    entropy = config.entropy
    assert (entropy.rule, entropy.estimate, entropy.target) == ("scripts", "sampled", 0.2)
    assert (entropy.delta, entropy.max_coefficient) == (1e-4, 5e-3)
    assert not any(change.online_filter for change in config.stages)


@pytest.mark.parametrize("name", RELEASED)
def test_every_key_of_a_released_preset_has_its_source_beside_it(name):
    stage = False  # a table of stages has its source beside its head
    for line in (PRESETS / f"{name}.toml").read_text().splitlines():
        if line.startswith("["):
            stage = line.startswith("[[stages]]")
            assert "#" in line or not stage, line
        elif "=" in line and not line.startswith("#"):
            assert "#" in line or stage, line


@pytest.mark.parametrize("name", RELEASED)
def test_a_released_preset_fits_its_gpus_by_the_arithmetic(name):
    config = compose([name], [])
    assert config.model.path.endswith("32B" if "32b" in name else "7B")
    device = peak(learner_of(config), shape_of(config.model.path)).device
    assert device < (1.0 if name == "skywork-or1-32b-scripts" else 0.9) * Gpu().bytes


def test_released_presets_compose_with_later_ones(tmp_path):
    over = tmp_path / "mine.toml"
    over.write_text("[flow]\nmax_staleness = 2\n")
    config = compose(["skywork-or1-7b", str(over)], ["train.ranks=16"])
    assert (config.flow.max_staleness, config.train.ranks, len(config.stages)) == (2, 16, 1)


DOCS = Path(__file__).resolve().parent.parent / "docs"


def printed(page):
    """The lines of a page's fenced blocks that a dry run prints, which are comments."""
    blocks = re.findall(r"^```\n(.*?)^```", (DOCS / page).read_text(), re.M | re.S)
    return [line for block in blocks for line in block.splitlines() if line.startswith("#")]


def test_the_docs_have_every_preset_and_the_memory_that_a_dry_run_prints():
    config = compose(["skywork-or1-32b"], [])
    shown = printed("presets.md")
    assert len(shown) >= 15
    assert set(shown) <= set(describe(config, shape_of(config.model.path)).splitlines())
    docs = (DOCS / "presets.md").read_text()
    for name in preset_names():
        assert f"`{name}`" in docs, name
    shares = dict(re.findall(r"([\d.]+) for\s+`(skywork-or1-[\w-]+)`", docs))
    assert len(shares) == 2
    for share, name in shares.items():
        config = compose([name], [])
        assert f"# {share} of a GPU" in describe(config, shape_of(config.model.path))


def test_the_docs_have_the_speed_and_the_steps_an_hour_that_a_plan_prints():
    settings = ["rollout.workers=24", "rollout.concurrency=2"]
    config = compose(["skywork-or1-7b"], settings)
    shown = printed("planning.md")
    assert len(shown) >= 10
    assert set(shown) <= set(describe(config, shape_of(config.model.path)).splitlines())
    words = ["plan", "--preset", "skywork-or1-7b", "--max-staleness", "0,1", "--steps", "40", "--json"]
    done = CliRunner().invoke(app, [*words, *(word for setting in settings for word in ("--set", setting))])
    on_policy, beside = (f"{row['steps_per_hour']:.2f}" for row in json.loads(done.output)["plan"])
    said = f"{on_policy} steps an hour at η = 0 and {beside} at η = 1"
    assert said in (DOCS / "planning.md").read_text()
