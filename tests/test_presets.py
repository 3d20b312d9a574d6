"""The shipped presets of the released models, against the report's tables and the released scripts."""

import json
import re
from pathlib import Path

import pytest
from leeway_rl.common.config import PRESETS, compose, preset_names
from leeway_rl.leeway.cli import app
from leeway_rl.leeway.planning.arithmetic import Gpu, describe, learner_bytes, shape_of
from leeway_rl.leeway.running.placement import lay_out
from leeway_rl.presets import comments
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
BASELINES = ["skywork-or1-1.5b", "skywork-or1-1.5b-one-gpu"]  # of section 4.1; the report has no model of this size
RELEASED = [*TABLES, *SCRIPTS, *BASELINES]
SIZES = ("1.5b", "7b", "32b")


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


@pytest.mark.parametrize("name", BASELINES)
def test_the_smallest_has_the_values_of_the_report_s_baseline(name):
    config = compose([name], [])
    assert stages(config) == [(0, 16 * K, 64, 64, 16)]
    assert (config.train.updates_per_step, config.train.learning_rate, config.flow.temperature) == (1, 1e-6, 1.0)
    assert (config.entropy.control, config.entropy.rule, config.entropy.target) == ("adaptive", "report", 0.2)
    assert (config.objective.loss, config.objective.kl_beta, config.flow.max_staleness) == ("magic", 0.0, 0)


def test_the_smallest_on_one_gpu_differs_in_what_is_a_matter_of_machines_alone():
    eight, one = (compose([name], []).model_dump() for name in BASELINES)
    differ = {
        f"{section}.{key}"
        for section in eight
        if isinstance(eight[section], dict)
        for key in eight[section]
        if eight[section][key] != one[section][key]
    }
    assert differ == {
        *("train.ranks", "train.zero_stage", "placement.rollout", "rollout.workers", "rollout.concurrency"),
        "rollout.gpu_memory_utilization",
    }


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
    size = next(size for size in SIZES if size in name)
    assert config.model.path.endswith(f"-{size.upper()}")
    device = learner_bytes(config, shape_of(config.model.path), Gpu())
    if any(each.shared for each in lay_out(config, 8, alone=False).placed):
        device += config.rollout.gpu_memory_utilization * Gpu().bytes
    assert device < 0.9 * Gpu().bytes


def test_the_longest_contexts_of_the_page_are_those_of_the_dry_run():
    settings = [f"train.{each}" for each in ("ranks=8", "offload=none", "bfloat16=weights", "micro_batch_tokens=34816")]
    dry = CliRunner().invoke(
        app, ["up", "--preset", "skywork-or1-7b", "--dry-run", *(f"--set={each}" for each in settings)]
    )
    longest = re.search(r"A row of up to ([\d,]+) tokens fits", dry.output)[1]
    row = next(line for line in comments.contexts().splitlines() if line.startswith("| 7B, 8 ranks"))
    assert row.split(" | ")[2] == longest


def test_released_presets_compose_with_later_ones(tmp_path):
    over = tmp_path / "mine.toml"
    over.write_text("[flow]\nmax_staleness = 2\n")
    config = compose(["skywork-or1-7b", str(over)], ["train.ranks=16"])
    assert (config.flow.max_staleness, config.train.ranks, len(config.stages)) == (2, 16, 1)


DOCS = Path(__file__).resolve().parent.parent / "docs"


@pytest.mark.parametrize("name", RELEASED)
def test_the_arithmetic_in_a_preset_s_comment_is_what_a_dry_run_prints(name):
    path = PRESETS / f"{name}.toml"
    assert path in comments.released()
    assert comments.with_comment(path) == path.read_text(), "run presets/comments.py"
    done = CliRunner().invoke(app, ["up", "--preset", name, "--dry-run"])
    assert done.exit_code == 0, done.output
    comment = path.read_text().partition("\n\n[")[0].partition("--dry-run\n#\n")[2]
    assert comment in done.output
    for part in ("longest response, tokens", "a GPU of the learner", "a GPU of a rollout worker", "GPUs of each"):
        assert part in comment


def test_the_docs_have_every_preset_and_what_a_dry_run_prints():
    docs = (DOCS / "reference" / "presets.md").read_text()
    for page, text in comments.pages().items():
        assert text == page.read_text(), f"{page.name}: run presets/comments.py"
        shown = [f"```\n# {head}" for head in ("a GPU of the learner", "processes, and the GPUs", "speed,")]
        assert any(part in text for part in [*shown, comments.contexts()])
    for name in preset_names():
        assert f"`{name}`" in docs, name


def test_the_docs_have_the_speed_and_the_steps_an_hour_that_a_plan_prints():
    config = compose(["skywork-or1-7b"], [])
    blocks = re.findall(r"^```\n(# speed.*?)^```", (DOCS / "how-to" / "planning.md").read_text(), re.M | re.S)
    shown = [line for block in blocks for line in block.splitlines()]
    assert len(shown) >= 10
    assert set(shown) <= set(describe(config, shape_of(config.model.path)).splitlines())
    words = ["plan", "--preset", "skywork-or1-7b", "--max-staleness", "0,1", "--steps", "40", "--json"]
    done = CliRunner().invoke(app, words)
    on_policy, beside = (f"{row['steps_per_hour']:.2f}" for row in json.loads(done.output)["plan"])
    said = f"{on_policy} steps an hour at η = 0 and {beside} at η = 1"
    assert said in (DOCS / "how-to" / "planning.md").read_text()
