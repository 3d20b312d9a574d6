"""docs/how-to/mixtures.md, as it stands: a run on two sources with rewards of their own, and the proofs at a bound of
0."""

import re
import shlex

import pytest
from leeway_rl.common.ledger import read

from tests.integration.pages import ROOT, blocks, run
from tests.integration.running import leeway, metrics

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PAGE = ROOT / "docs" / "how-to" / "mixtures.md"
BOTH = "--preset my-task/preset.toml --preset my-task/mixture.toml"
COMMANDS = [
    "leeway check my-task/preset.toml my-task/mixture.toml --rows 2 --responses 2",
    f"leeway up {BOTH} --run my-mixture",
    "leeway report my-mixture",
    "leeway audit my-mixture",
]


@pytest.fixture
def task(tmp_path):
    """A folder with ``my-task`` as the page leaves it."""
    assert leeway("init", "my-task", cwd=tmp_path).returncode == 0
    (tmp_path / "my-task" / "mixture.toml").write_text(blocks(PAGE, "toml")[0])
    return tmp_path


def sources_of(folder):
    issued = [line for line in read(folder / "ledger.jsonl") if line["event"] == "issued" and not line["reissued"]]
    return [line["prompt"].partition(":")[0] for line in issued]


def test_the_page_trains_on_two_sources(task):
    documented = [line for block in blocks(PAGE, "") for line in block.splitlines()]
    assert documented == COMMANDS
    few = " --set train.steps=6 --set train.groups_per_step=6"
    said = [run(command + few * ("leeway up" in command), task) for command in COMMANDS]
    looked = said[0]
    assert "source shipped, 0.75 of the tickets" in looked
    assert "source mine, 0.25 of the tickets" in looked
    assert re.search(r"source mine.*1\.000  \\boxed\{85\}  scored", looked, re.S)
    assert re.search(r"source shipped.*1\.000  \\boxed\{85\}  correct.*source mine", looked, re.S)
    folder = task / "runs" / "my-mixture"
    drawn = sources_of(folder)
    assert abs(drawn.count("mine") - 0.25 * len(drawn)) <= 3
    lines = metrics(folder)
    for name in ("shipped", "mine"):
        assert sum(line[f"source/{name}/trained"] for line in lines) > 0
        assert all(
            0 <= line[f"source/{name}/reward_mean"] <= 1 for line in lines if f"source/{name}/reward_mean" in line
        )
    assert all(line["source/shipped/trained"] + line["source/mine/trained"] == 6 for line in lines)
    assert all(line["source/shipped/share"] + line["source/mine/share"] == pytest.approx(1) for line in lines)
    assert re.search(
        r"<th scope=\"row\">mine</th><td>[\d.]+ % of the groups, \d+ trained", (folder / "report.html").read_text()
    )
    assert "audit passed" in said[-1]


@pytest.mark.timeout(1800)
def test_with_two_sources_and_across_looks_a_bound_of_0_ends_with_the_weights_of_one_process(task):
    few = "--set train.groups_per_step=4 --set train.group_size=4 --set flow.reconsider_every=1 --steps 4"
    stage = "--set stages=[{from_step=2,shares={mine=3},online_filter=true}]"
    words = shlex.split(f"prove on-policy {BOTH} {few} {stage} --rollout-workers 2 --verifier-workers 2")
    done = leeway(*words, cwd=task, timeout=1700)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "equal, bit for bit" in done.stdout


def test_a_run_that_is_resumed_asks_what_an_undisturbed_one_asks(task):
    """At a bound of 0, a run that ends after its checkpoint of step 2 and goes on issues the same tickets."""
    few = "--set train.groups_per_step=4 --set train.group_size=4 --set flow.reconsider_every=1"
    few += " --set flow.max_staleness=0 --set train.checkpoint_every=2"
    run(f"leeway up {BOTH} {few} --set train.steps=4 --run whole", task)
    asked = {
        line["ticket"]: line["prompt"] for line in read(task / "runs/whole/ledger.jsonl") if line["event"] == "issued"
    }
    looks = [line for line in read(task / "runs/whole/ledger.jsonl") if line["event"] == "sampling"]
    assert looks
    (task / "runs/whole/checkpoints/step-000004/complete.json").unlink()  # as if it had died before this one was safe
    ledger = task / "runs/whole/ledger.jsonl"
    kept = ledger.read_text().splitlines(keepends=True)
    ledger.write_text("".join(kept[:-1]))  # the run's end
    run("leeway up --run whole --resume", task)
    again = {line["ticket"]: line["prompt"] for line in read(ledger) if line["event"] == "issued"}
    assert again == asked
    assert [line for line in read(ledger) if line["event"] == "rolled_back"]
    assert "audit passed" in run("leeway audit whole", task)


@pytest.mark.timeout(900)
def test_what_a_source_lacks_is_told_before_anything_starts(task):
    text = (task / "my-task" / "mixture.toml").read_text()
    (task / "my-task" / "mixture.toml").write_text(text.replace("{here}/rows.jsonl", "{here}/rwos.jsonl"))
    done = leeway("up", *BOTH.split(), "--run", "none", cwd=task)
    assert done.returncode == 3
    assert "data.mine.path = " in done.stderr
    assert "rwos.jsonl" in done.stderr
    (task / "my-task" / "mixture.toml").write_text(text.replace('["digits"]', '["digit"]'))
    done = leeway("up", *BOTH.split(), "--run", "none", cwd=task)
    assert done.returncode == 2
    assert "data.1.rewards: no reward is called 'digit'; did you mean 'digits'?" in done.stderr
    assert not (task / "runs" / "none").exists()
