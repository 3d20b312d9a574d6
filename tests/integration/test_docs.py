"""Every command in the README and the docs is executed here, as it stands but for three substitutions: a preset that
takes seconds, the test server's address, and fewer ranks."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from leeway_rl.leeway.running.server import free_port
from leeway_rl.studies.catalogue import STUDIES as CATALOGUE

from tests.integration.running import has_begun, leeway, metrics, pause, start
from tests.integration.test_elsewhere import COMMANDS as ELSEWHERE
from tests.integration.test_elsewhere import START as BEGIN_ELSEWHERE
from tests.integration.test_end_to_end import COMMANDS as END_TO_END
from tests.integration.test_evaluation import EVALUATION
from tests.integration.test_fewer_ranks import FEWER
from tests.integration.test_fork import COMMANDS as FORK
from tests.integration.test_hours import MORE
from tests.integration.test_mixtures import COMMANDS as MIXTURES
from tests.integration.test_own_environment import COMMANDS as OWN_ENVIRONMENT
from tests.integration.test_own_loss import COMMANDS as OWN_LOSS
from tests.integration.test_own_model import COMMANDS as OWN_MODEL
from tests.integration.test_own_reward import COMMANDS as OWN_REWARD
from tests.integration.test_profile import COMMANDS as PROFILE
from tests.integration.test_trackers import COMMANDS as TRACKERS
from tests.integration.test_turns import PROVE as PROVE_TURNS
from tests.integration.test_turns import TRAIN as TRAIN_TURNS
from tests.learner.test_hub import PUSH
from tests.leeway.test_watch import COMMANDS as WATCH

ROOT = Path(__file__).resolve().parent.parent.parent
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

BY_MAKE = {
    *("make demo", "make test", "make check", "make fuzz", "make soak", "make chaos", "make smollm2", "make setup"),
    *("make gpu-wheels", "make gpu-check", "make site", "make models"),
}
"""What is not started from inside the tests: they are started by it, or it takes an hour, or a GPU. Their targets are
checked."""

BEFORE = [
    "leeway config",
    "leeway acl --passwords passwords",
    "leeway doctor --preset tiny --quick",
    "leeway up --preset smollm2 --dry-run",
    "leeway up --preset skywork-or1-7b --dry-run",
    "leeway up --preset skywork-or1-32b --dry-run",
]
DURING = [
    "leeway pause",
    "leeway status",
    "leeway status --run runs/my-run",
    "leeway status --json",
    "leeway dead-letters list",
    "leeway dead-letters retry --all",
    "leeway set max-staleness 2",
    "leeway set max-staleness auto",
    "leeway set overflow mask",
    "leeway set pipeline-depth 64",
    "leeway set pipeline-depth auto",
    "leeway set target-entropy 0.3",
    "leeway set target-entropy 0.25",
    "leeway set target-entropy stage",
    "leeway set learning-rate 3e-5",
    "leeway set learning-rate stage",
    "leeway resume",
]
AFTER = [
    "leeway up --run my-run --resume",
    "leeway runs",
    "leeway runs --json",
    "leeway audit my-run",
    "leeway audit runs/my-run/",
    "leeway report my-run",
    "leeway samples my-run",
    "leeway samples my-run --verdict wrong --last 20",
    "leeway samples my-run --worst 5 --full",
    "leeway export my-run --out my-model",
    "leeway plan --from runs/my-run",
    "leeway plan --from runs/my-run --max-staleness 0,1,2,4",
]
RUN = "leeway up --preset tiny --run my-run"
OTHERS = [
    "leeway up --preset tiny --set flow.max_staleness=0",
    "leeway up --preset tiny --set flow.max_staleness=4",
    "leeway up --preset tiny --set flow.max_staleness=4 --set flow.inject_lag=4",
    "leeway up --preset tiny --set flow.max_staleness=auto",
]
TIMED = (
    "leeway plan --group-size 1 --length-mean {mean} --length-sigma {sigma} {longest}--groups-per-step 32 --steps 400 "
    "--replicas 1 --concurrency 10000 --alone 1000 --peak inf --train-s 1 "
)
PLANS = [
    "leeway plan --replicas 64 --train-s 60 --rejected 0.3 --max-staleness 0,1,2,4",
    "leeway plan --overflow wait,drop,mask,soft --max-staleness 2 --json",
    "leeway plan --gpus 64 --gpus-per-replica 2 --learner-gpus 8 --train-s 5 --train-tokens-per-s 400000 "
    "--max-staleness 2",
    "leeway plan --gpus 64 --train-s 5 --train-tokens-per-s 400000",
    "leeway plan --fit 32:375,64:270 --predict 128,256",
    "leeway plan --replicas 32 --concurrency 2 --alone 107 --peak 952 --group-size 16 --groups-per-step 64 "
    "--train-s 93.6 --max-staleness 0,1,2 --steps 200",
    TIMED.format(mean=1000, sigma=1, longest="--length-max 1000000 ")
    + "--pipeline-depth 160 --max-staleness 1,2,4 --overflow wait,drop,mask,soft",
    "leeway plan --group-size 1 --length-mean 1000 --length-sigma 1 --length-max 1000000 --groups-per-step 16 "
    "--steps 400 --replicas 1 --concurrency 1 --alone 16842 --peak inf --train-s 1 --max-staleness 8 --overflow mask",
    "leeway plan --group-size 1 --length-mean 1000 --length-sigma 0.3 --groups-per-step 32 --steps 400 --replicas 4 "
    "--concurrency 8 --alone 50 --peak 400 --train-s 40 --max-staleness 0,1,2,3,auto",
    TIMED.format(mean=500, sigma=0.25, longest="") + "--max-staleness 8 --overflow wait,mask",
    "leeway plan --preset skywork-or1-7b --max-staleness 0,1,2 --steps 40",
    "leeway plan --preset skywork-or1-7b --gpus 16 --max-staleness 1,2 --steps 20",
    "leeway plan --preset skywork-or1-32b",
]
"""Executed with fewer steps of smaller batches: what they print as they stand is in the pages."""
DATA = [
    "leeway data run examples/data/recipe.toml --out my-data",
    "leeway data show my-data/datasets/06-decontaminate",
    "leeway data formats",
    "leeway data load --name mine --format taco --path examples/data/taco.jsonl --out my-dataset",
    "leeway data links my-data/datasets/02-duplicates --no-figures --out my-other-dataset",
    "leeway data difficulty my-data/datasets/08-length --name DeepSeek-R1-Distill-Qwen-7B --responses-code 16 "
    "--out my-filtered",
]
WITH_MODELS = [
    "leeway data run examples/models/difficulty.toml --out my-rated",
    "leeway data run examples/models/quality.toml --out my-judged",
    "python -m vllm.entrypoints.openai.api_server",
]
"""Executed in tests/data: test_examples.py with a smaller model and a double of the endpoint, test_vllm_serve.py."""
SWEEP = "leeway sweep --preset tiny --grid flow.max_staleness=0,1,2,4,8 --grid entropy.control=adaptive,none --seeds 3"
SWEEPS = [
    SWEEP,
    f"{SWEEP} --set train.steps=30 --set train.groups_per_step=4 --set train.group_size=32 "
    "--set train.minibatch_groups=2 --set train.reuse=2 --set entropy.delta=0.02 --set flow.pipeline_depth=36",
    "leeway sweep --preset tiny --grid flow.max_staleness=0,1,2,auto --seeds 5 --set train.steps=40 "
    "--set flow.staleness_period=4",
]
"""Half an hour each; test_sweep.py runs a small one. Here they are checked as far as they go without a run."""
STUDIES = ["leeway study --all", "leeway study --list", *(f"leeway study {name}" for name in CATALOGUE)]
"""An hour all together; tests/studies runs each with one step."""
VERIFY = "leeway verify in.jsonl --out out.jsonl --jobs 8"
HARD_BOUND = "python tests/proofs/hard_bound.py"
PROVE = "leeway prove on-policy --steps 5 --rollout-workers 2 --verifier-workers 2"
SERVER = "leeway server --host 0.0.0.0 --name redis-host --password-file password"
CREATE = "leeway create my-run --preset smollm2"
ONE_RANK = "leeway learner my-run"
TORCHRUN = "python -m leeway_rl.learner.torchrun"
RANKS = f"{TORCHRUN} --shutdown-timeout 65 --nproc-per-node 8 -m -- leeway_rl.learner --run my-run"
DOCTOR = "leeway doctor my-run --role rollout --quick"
CLUSTER = ["leeway rollout my-run", "leeway verifier my-run", RANKS]
HELP = "python -m leeway_rl.rollout --help"
QUICK = 'python -m pytest -m "not vllm and not slow"'
"""The quick round of the tests; running it inside the tests would run them twice."""
PLACEHOLDER = re.compile(r"\b(RUN|ID|URL|IN|OUT|CHECKOUT)\b")
EXAMPLE = "python examples/one_process.py --preset tiny --steps 5"


GENERATED = {ROOT / "docs/reference" / name for name in ("keys.md", "command-line.md", "messages.md", "python.md")}
"""Pages that the code writes: they name commands without their arguments."""


def documented():
    """Commands in fenced blocks (one a line) and in inline code, without placeholders in capitals."""
    found = set()
    pages = set((ROOT / "docs").rglob("*.md")) - GENERATED
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(pages)]:
        text = path.read_text()
        fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)
        inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
        for line in [line for block in fenced for line in block.splitlines()] + inline:
            words = line.strip().removeprefix(".venv/bin/")
            if re.match(r"(leeway|make|torchrun|python) +[a-z-]", words) and not PLACEHOLDER.search(words):
                found.add(words)
    return found


def test_every_documented_command_is_executed_or_a_make_target():
    executed = {
        *BEFORE,
        *DURING,
        *AFTER,
        *OTHERS,
        *CLUSTER,
        RUN,
        PROVE,
        PROVE_TURNS,
        TRAIN_TURNS,
        HARD_BOUND,
        VERIFY,
        *DATA,
        *WITH_MODELS,
        *END_TO_END,
        *OWN_REWARD,
        *OWN_ENVIRONMENT,
        *OWN_LOSS,
        *OWN_MODEL,
        *FORK,
        *MIXTURES,
        *PROFILE,
        *TRACKERS,
        *ELSEWHERE,
        BEGIN_ELSEWHERE,
        PUSH,
        *WATCH,
        *PLANS,
        *SWEEPS,
        *STUDIES,
        *EVALUATION,
        SERVER,
        CREATE,
        DOCTOR,
        FEWER,
        MORE,
        ONE_RANK,
        EXAMPLE,
        HELP,
        QUICK,
        *BY_MAKE,
    }
    scripts = {
        words
        for words in documented() - executed
        if re.match(r"python (benchmarks|docs|presets|tests/(proofs|releases))/", words)
    }
    tests = [path.read_text() for path in ROOT.glob("tests/**/test_*.py") if path != Path(__file__)]
    tried = "".join([*tests, (ROOT / "Makefile").read_text()])
    for words in scripts:  # minutes to hours as documented; run small by their own tests, or by make
        path = Path(words.split()[1])
        assert (ROOT / path).exists(), words
        imported = rf"\b{path.stem} import |from \S+ import {path.stem}\b"
        assert path.name in tried or re.search(imported, tried), f"{words}: nothing runs it small"
    bare = {
        "leeway up",
        "leeway acl",
        "leeway server",
        "leeway --install-completion",
        "leeway server --passwords passwords",
        "leeway audit",
        "leeway pull",
        "leeway prove on-policy",
        "leeway learner",
        "leeway create",
        "leeway doctor",
        "leeway prove",
        "leeway plan",
        "leeway plan --preset",
        "leeway data",
        "leeway data run",
        "leeway data show",
        "leeway verify",
        "leeway sweep",
        "leeway chaos",
        "leeway sample",
        "leeway samples",
        "leeway watch",
        "leeway eval",
        "leeway eval run",
        "leeway report",
        "leeway rollout",
        "leeway verifier",
        "leeway set",
        "leeway export",
        "leeway fork",
        "leeway track",
        "leeway up --dry-run",
        "leeway up --resume",
        "leeway check",
    }
    assert documented() - executed - bare - scripts == set()
    targets = (ROOT / "Makefile").read_text()
    for command in BY_MAKE:
        assert re.search(rf"^{command.split()[1]}:", targets, re.M)


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """The tiny preset with a few small steps."""
    text = (ROOT / "presets/tiny.toml").read_text()
    for long, brief in (("steps = 60", "steps = 30"), ("groups_per_step = 16", "groups_per_step = 4")):
        assert long in text
        text = text.replace(long, brief)
    path = tmp_path_factory.mktemp("presets") / "short.toml"
    path.write_text(text)
    return path


def words_of(command, short):
    """The words after ``leeway``."""
    return shlex.split(command.replace("--preset tiny", f"--preset {short}"))[1:]


def test_the_commands_around_a_run(tmp_path, short, wait_until):
    for command in BEFORE:
        assert leeway(*words_of(command, short), cwd=tmp_path).returncode == 0, command
    running = start(*words_of(RUN, short), cwd=tmp_path)
    wait_until((tmp_path / "runs/my-run/redis-url").exists, "its server", 300)
    with pause(tmp_path / "runs/my-run") as bus:  # the last of these commands lets it go on
        wait_until(lambda: has_begun(bus), "it waits for groups", 300)
        for command in DURING:
            done = leeway(*words_of(command, short), cwd=tmp_path)
            assert done.returncode == 0, command + done.stdout + done.stderr
    said, _ = running.communicate(timeout=600)
    assert running.returncode == 0, said
    for command in AFTER:
        done = leeway(*words_of(command, short), cwd=tmp_path)
        assert done.returncode == 0, command + done.stdout + done.stderr
    for command in OTHERS:
        done = leeway(*words_of(command, short), "--set", "train.steps=2", cwd=tmp_path)
        assert done.returncode == 0, command + done.stdout + done.stderr


def test_the_cluster_commands(tmp_path, short):
    """The page's own server, with its password, and every role by the address file that it wrote."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "LEEWAY_REDIS_URL": "@leeway-server/url"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"

    def started(command, **more):
        text = command.replace("--name redis-host", f"--name localhost --port {free_port()}")
        text = text.replace("--preset smollm2", f"--preset {short} --set train.steps=2").replace("node 8", "node 2")
        return subprocess.Popen(shlex.split(text), env=environment, cwd=tmp_path, text=True, **more)

    processes = [started(SERVER, stdout=subprocess.PIPE)]
    try:
        assert processes[0].stdout.readline().startswith(("valkey-server at 0.0.0.0", "redis-server at 0.0.0.0"))
        assert f"LEEWAY_REDIS_URL=@{tmp_path}/leeway-server/url" in processes[0].stdout.readline()
        assert started(CREATE).wait(600) == 0
        assert started(DOCTOR).wait(600) == 0
        processes += [started(command) for command in CLUSTER]
        assert [process.wait(600) for process in reversed(processes[1:])] == [0, 0, 0]
        assert len(metrics(tmp_path / "runs/my-run")) == 2
        again = started(ONE_RANK, stderr=subprocess.PIPE)
        processes.append(again)
        said = again.communicate(timeout=600)[1]
        assert again.returncode == 0, said  # the checkpoint of two ranks goes on under one
        processes[0].terminate()
        assert processes[0].wait(250) == 0
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_the_proof_as_documented(tmp_path, short):
    proved = leeway(*words_of(PROVE, short), "--preset", str(short), cwd=tmp_path, timeout=600)
    assert proved.returncode == 0, proved.stdout + proved.stderr
    assert "equal, bit for bit" in proved.stdout


def test_a_roles_own_help_answers():
    done = subprocess.run([sys.executable, *shlex.split(HELP)[1:]], capture_output=True, text=True, check=True)
    assert "--wait-s" in done.stdout


def test_the_plans_as_documented(tmp_path):
    for command in PLANS:
        fewer = command.replace("--steps 400", "--steps 20")
        words = shlex.split(fewer)[1:] + ([] if fewer != command else ["--steps", "4", "--groups-per-step", "16"])
        done = leeway(*words, cwd=tmp_path)
        assert done.returncode == 0, command + done.stdout + done.stderr


def test_the_sweeps_as_documented_are_understood(tmp_path):
    for command in SWEEPS:
        done = leeway(*shlex.split(command)[1:], "--report-only", cwd=tmp_path)
        assert (done.returncode, "no point is finished yet" in done.stderr) == (3, True), command + done.stderr


def test_the_hard_bound_as_documented():
    command = [sys.executable, *shlex.split(HARD_BOUND)[1:], "--histories", "20"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_example_runs_by_itself(short):
    command = [sys.executable, *shlex.split(EXAMPLE.replace("--preset tiny", f"--preset {short}"))[1:]]
    done = subprocess.run([*command[:-1], "1"], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("checksum ")


def test_data_is_prepared_as_documented(tmp_path):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "presets").symlink_to(ROOT / "presets")
    said = []
    for command in DATA:
        done = leeway(*shlex.split(command)[1:], cwd=tmp_path)
        assert done.returncode == 0, command + done.stdout + done.stderr
        said.append(done.stdout)
    assert said[0] in (ROOT / "docs/how-to/prepare-rows.md").read_text()
    assert "A lamp maker has 14 red lamps" in said[1]
    assert said[4] == "links: 14 rows, 13 kept; dropped: 1 an external link\n"


def test_a_file_of_responses_is_graded_as_documented(tmp_path):
    program = "Twice the number.\n```python\nprint(2 * int(input()))\n```"
    tests = {"inputs": ["3\n", "10\n"], "outputs": ["6\n", "20\n"]}
    rows = [
        {"id": "sum", "response": r"It is \boxed{\frac{1}{2}}.", "answer": ["0.5", "1"]},
        {"id": "code", "response": program, "tests": tests},
        {"id": "off", "response": program.replace("2 *", "3 *"), "tests": tests},
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = leeway(*shlex.split(VERIFY)[1:], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    graded = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(row["id"], row["verdict"]) for row in graded] == [
        ("sum", "correct"),
        ("code", "correct"),
        ("off", "wrong"),
    ]
