"""Sampling and evaluating for real: server, rollout and verifier workers, a collector that is killed in the middle."""

import json
import os
import random
import re
import signal
from contextlib import closing

import psutil
import pyarrow.parquet as pq
import pytest
from leeway_rl.common.queue.connection import Connection
from leeway_rl.common.queue.desk import runs_at
from leeway_rl.evaluation.responses import ResponseStore

from tests.integration.running import has_begun, kill, leeway, lingering, paused, role_pids, start
from tests.roles import Roles

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

EVALUATION = [
    "leeway sample problems.jsonl --model my-model --out my-samples --responses 16",
    "leeway eval run aime24 aime25 --model my-model --out my-eval",
    "leeway eval run aime24 aime25 --model runs/my-run --step 40 --out my-other-eval",
    "leeway eval run humaneval problems.jsonl --model my-model --out my-code-eval",
    "leeway eval compare my-eval my-other-eval",
    "leeway eval regrade my-eval",
    "leeway eval follow my-run aime24 --every 20",
]
"""As the documentation has them."""
SHORT = ["--engine", "torch", "--max-tokens", "64", "--max-prompt-tokens", "32"]
PROBLEMS = 128


def sums(path, count):
    """A file of additions."""
    draw = random.Random(4)
    pairs = [(draw.randint(10, 99), draw.randint(10, 99)) for _ in range(count)]
    rows = [{"id": f"s{number}", "prompt": f"{a}+{b}", "answer": str(a + b)} for number, (a, b) in enumerate(pairs)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def test_a_sample_is_killed_resumed_evaluated_and_compared(tmp_path, tiny_model, wait_until):
    rows = sums(tmp_path / "sums.jsonl", PROBLEMS)
    out = tmp_path / "one"
    command = [
        "eval",
        "run",
        "sums.jsonl",
        "aime24=none.parquet",
        "--model",
        str(tiny_model),
        "--out",
        "one",
        "--responses",
    ]
    command += ["8", *SHORT]
    running = start(*command, cwd=tmp_path)
    wait_until(lambda: (out / "redis-url").exists(), "its server", 240)
    sampling = stopped_in_the_middle((out / "redis-url").read_text().strip(), tmp_path, wait_until)
    wait_until(lambda: ResponseStore(out).counts().total() >= 8, "a part of the responses is on disk", 240)
    before = ResponseStore(out).counts()
    assert before.total() < 8 * PROBLEMS
    running.kill()  # the desk; its server and roles leave with it
    running.wait(200)
    running.stdout.close()
    for pid in sampling:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: not _alive(out), "its server is gone", 300)
    done = leeway(*command, cwd=tmp_path, timeout=600)
    assert done.returncode == 3, done.stderr  # the benchmark that is not there
    assert "aime24: none.parquet: no such file" in done.stderr
    assert "sums" in done.stdout
    found = pq.read_table(out / "responses.parquet").to_pylist()
    assert sorted((row["id"], row["index"]) for row in found) == sorted(
        (f"sums/{row['id']}", index) for row in rows for index in range(8)
    )
    assert {row["version"] for row in found} == {0}
    assert before <= ResponseStore(out).counts()
    result = json.loads((out / "eval.json").read_text())["benchmarks"]["sums"]
    correct = sum(row["verdict"] == "correct" for row in found)
    assert result["avg_at_n"]["value"] == pytest.approx(correct / (8 * PROBLEMS))
    assert 0.3 < result["avg_at_n"]["value"] < 0.9
    assert (out / "eval.png").read_bytes().startswith(b"\x89PNG")
    assert not (out / "redis").exists()

    # The same seed in one go gives the same responses, whoever generates them; and nothing differs.
    two = leeway(
        "eval", "run", "sums.jsonl", *command[4:6], "--out", "two", *command[8:], "--workers", "2", cwd=tmp_path
    )
    assert two.returncode == 0, two.stderr

    def texts(folder):
        table = pq.read_table(tmp_path / folder / "responses.parquet").to_pylist()
        return sorted((row["id"], row["index"], row["response"], row["verdict"]) for row in table)

    assert texts("one") == texts("two")
    compared = leeway("eval", "compare", "one", "two", "--json", cwd=tmp_path)
    difference = json.loads(compared.stdout)["sums"]["difference"]
    assert difference == {"value": 0.0, "low": 0.0, "high": 0.0}

    # Another verifier's verdicts: a table whose right answers were taken for wrong is put right.
    store = ResponseStore(tmp_path / "two")
    table = pq.read_table(store.whole)
    verdicts = ["wrong" if verdict == "correct" else verdict for verdict in table["verdict"].to_pylist()]
    wrong = table.set_column(table.schema.get_field_index("verdict"), "verdict", [verdicts])
    pq.write_table(wrong.cast(table.schema), store.whole)
    regraded = leeway("eval", "regrade", "two", cwd=tmp_path)
    assert f"0 responses graded anew, {8 * PROBLEMS:,} verdicts kept" in regraded.stdout, regraded.stderr
    regraded = leeway("eval", "regrade", "two", "--anew", cwd=tmp_path)
    assert f"{correct:,} verdicts changed" in regraded.stdout, regraded.stderr
    assert texts("one") == texts("two")

    # What is finished is not taken for what somebody asks of it now.
    rows = sums(tmp_path / "sums.jsonl", PROBLEMS - 1)
    refused = leeway(*command, cwd=tmp_path)
    assert (refused.returncode, "Traceback" in refused.stderr) == (3, False)
    assert "sums.jsonl has changed" in refused.stderr
    refused = leeway("eval", "regrade", "one", cwd=tmp_path)
    assert refused.returncode == 3
    assert f"problem 'sums/s{PROBLEMS - 1}' has responses, but is no longer in" in refused.stderr


def stopped_in_the_middle(url, folder, wait_until):
    """Stop the rollout workers of the one run at ``url`` once a group is graded; their process ids."""
    wait_until(lambda: runs_at(url), "the run", 240)
    (run,) = runs_at(url)
    with closing(Roles(Connection(url, run))) as bus:
        wait_until(lambda: bus.overview.depths()["scored"], "the first group", 240)
        pids = role_pids(run, "rollout", folder)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
    assert pids
    return pids


def _alive(out):
    from leeway_rl.common.errors import BrokerError

    try:
        Connection((out / "redis-url").read_text().strip(), "probe", connect_s=0.5).close()
    except BrokerError:
        return False
    return True


def test_a_run_is_followed_while_it_trains_and_its_follower_is_killed(tmp_path, wait_until):
    sums(tmp_path / "sums.jsonl", 24)
    small = ["--preset", "tiny", "--set", "train.steps=16", "--set", "train.groups_per_step=4"]
    training = start("up", *small, "--run", "fed", cwd=tmp_path)
    folder = tmp_path / "runs/fed"
    wait_until((folder / "redis-url").exists, "its server", 300)
    out = folder / "evaluations/follow"
    command = ["eval", "follow", "fed", "sums.jsonl", "--every", "8", "--responses", "4", *SHORT]
    with paused(folder) as bus:
        wait_until(lambda: has_begun(bus), "it waits for groups", 300)
        following = start(*command, cwd=tmp_path)
        wait_until(lambda: list((out / "versions").glob("*-*")), "a version is under way", 300)
        (under_way,) = (out / "versions").iterdir()
        for pid in collectors(tmp_path):
            kill(pid)  # the collector alone; its supervisor starts it again
        wait_until((under_way / "eval.json").exists, "that version is evaluated", 300)
    with lingering(training):  # a busy follower may read the last version late
        said, _ = following.communicate(timeout=600)
    assert following.returncode == 0, said
    trained, _ = training.communicate(timeout=600)
    assert training.returncode == 0, trained
    lines = [json.loads(line) for line in (out / "evaluations.jsonl").read_text().splitlines()]
    versions = [line["version"] for line in lines]
    assert versions == sorted(set(versions))
    assert len(versions) >= 2
    assert versions[-1] == 16
    for path in (out / "versions").iterdir():
        table = pq.read_table(path / "responses.parquet").to_pylist()
        assert len({(row["id"], row["index"]) for row in table}) == len(table) == 96
        assert {row["version"] for row in table} == {int(path.name.split("-")[0])}  # pinned while it is evaluated
    metrics = [json.loads(line) for line in (folder / "workers.jsonl").read_text().splitlines()]
    assert [line["version"] for line in metrics if "eval/sums/value" in line][:1] == versions[:1]
    assert leeway("report", "fed", cwd=tmp_path).returncode == 0
    page = (folder / "report.html").read_text()
    assert "Evaluation by version" in page
    assert f"version 16: {lines[-1]['avg_at_n']['value']:.3f}" in page


def collectors(folder):
    """Followers' collectors that were started in ``folder``."""
    found = [process.info for process in psutil.process_iter(["pid", "cmdline", "cwd"])]
    ours = [info for info in found if "leeway_rl.evaluation.follow" in (info["cmdline"] or [])]
    return [info["pid"] for info in ours if info["cwd"] == str(folder)]


def test_the_commands_as_documented(tmp_path, tiny_model):
    """On small files in the benchmarks' places, and on a checkpoint of a short run."""
    run = ["--preset", "tiny", "--set", "train.steps=4", "--set", "train.groups_per_step=4", "--run", "my-run"]
    assert leeway("up", *run, "--set", "train.checkpoint_every=2", cwd=tmp_path).returncode == 0
    (tmp_path / "my-model").symlink_to(tiny_model)
    sums(tmp_path / "problems.jsonl", 4)
    for name in ("aime24", "aime25"):
        rows = [{"id": n, "problem": f"{n}+{n}", "answer": str(2 * n)} for n in (11, 12)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    program = {"task_id": "T/0", "prompt": "def f():\n", "test": "def check(f):\n    assert f()", "entry_point": "f"}
    (tmp_path / "humaneval.jsonl").write_text(json.dumps(program) + "\n")
    for command in EVALUATION:
        if "eval follow" in command:
            continue  # by the test above
        words = re.sub(r"\b(aime24|aime25|humaneval)\b", r"\1=\1.jsonl", command).replace("--step 40", "--step 2")
        words = words.replace("--responses 16", "")
        short = [] if re.search("compare|regrade", command) else ["--responses", "2", *SHORT]
        done = leeway(*words.split()[1:], *short, cwd=tmp_path)
        assert done.returncode == 0, command + done.stdout + done.stderr
    assert pq.read_table(tmp_path / "my-samples/responses.parquet").num_rows == 8
    other = json.loads((tmp_path / "my-other-eval/eval.json").read_text())
    assert other["benchmarks"].keys() == {"aime24", "aime25"}
    assert (tmp_path / "my-other-eval/model/config.json").exists()
    code = json.loads((tmp_path / "my-code-eval/eval.json").read_text())["benchmarks"]
    assert code["humaneval"]["responses"] == 2  # graded in the sandbox, right or wrong
    assert code["problems"]["problems"] == 4
