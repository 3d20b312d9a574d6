"""docs/how-to/own-loss.md, as it stands; and a run whose loss fails, is mended and goes on."""

import re

import pytest
from leeway_rl.common.config import parse
from leeway_rl.common.ledger import read

from tests.integration.pages import ROOT, blocks, commands, run
from tests.integration.running import SMALL, leeway, metrics

PAGE = ROOT / "docs" / "how-to" / "own-loss.md"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

COMMANDS = [
    "leeway up --preset tiny --set objective.loss=my_loss.py:magic --dry-run",
    "leeway prove on-policy --preset tiny --set objective.loss=my_loss.py:magic --steps 2",
]


def test_the_page_s_loss_trains_as_the_built_in_one_bit_for_bit(tmp_path):
    assert commands(PAGE) == COMMANDS
    function, _ = blocks(PAGE, "python")
    assert function in (ROOT / "examples" / "own_loss.py").read_text()
    (tmp_path / "my_loss.py").write_text(function)
    config = parse(run(COMMANDS[0], tmp_path))
    assert (config.objective.loss, bool(config.objective.loss_digest)) == (f"{tmp_path}/my_loss.py:magic", True)
    said = run(COMMANDS[1], tmp_path)
    assert "equal, bit for bit" in said
    built_in = "python -m leeway_rl.examples.one_process --preset tiny --set flow.max_staleness=0 --steps 2"
    checksum = run(built_in, tmp_path).splitlines()[-1].removeprefix("checksum ")
    assert re.findall(r"^  (?:asynchronous|one process) +(\w+)$", said, re.M) == [checksum, checksum]


FAILS = """
CALLS = 0


def loss(logprobs, advantages):
    global CALLS
    CALLS += 1
    if CALLS > 3:  # it is tried out twice, and the first step has one micro-batch
        logprobs = logprobs * float("nan")
    return -logprobs * advantages
"""


def test_a_run_whose_loss_fails_ends_in_one_line_and_goes_on_once_it_is_mended(tmp_path):
    (tmp_path / "mine.py").write_text(FAILS)
    own = ["--set", "objective.loss=mine.py:loss", "--set", "train.checkpoint_every=1", "--set", "train.steps=3"]
    done = leeway("up", *SMALL, *own, "--run", "mine", cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert re.search(r"learner: objective.loss = '.*mine.py:loss': it gave nan for a token with logprobs", done.stderr)
    assert "Traceback" not in done.stderr + (tmp_path / "runs/mine/logs/learner.log").read_text()
    assert len(metrics(tmp_path / "runs/mine")) == 1
    (tmp_path / "mine.py").write_text(FAILS.replace("CALLS > 3", "CALLS < 0"))
    again = leeway("up", "--run", "mine", "--resume", "--set", "objective.loss_digest=any", cwd=tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert [line["step"] for line in metrics(tmp_path / "runs/mine")] == [0, 1, 2]
    lines = read(tmp_path / "runs/mine/ledger.jsonl")
    first, second = [line["loss_digest"] for line in lines if line["event"] == "started"]
    assert len(first) == len(second) == 16
    assert first != second  # it says which code it was, also where any is fine
    assert leeway("audit", "mine", cwd=tmp_path).returncode == 0
