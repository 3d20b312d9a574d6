"""Whole runs through the real command line: real server, real processes, real DeepSpeed, real Math-Verify."""

import json
import re
import signal

import pytest
from leeway_rl.common.ledger import read
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.documented_metrics import undocumented
from tests.integration.running import SMALL, kill, last_checksum, leeway, metrics, paused, role_pids, start
from tests.monitoring import measurements

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NAMES = {
    "step",
    "version",
    "reward/mean",
    "entropy/policy",
    "entropy/target",
    "entropy/alpha",
    "staleness/head_mean",
    "staleness/head_max",
    "batch/groups",
    "batch/tokens",
    "refunds/zero_advantage",
    "time/step_s",
    "time/wait_for_batch_s",
    "throughput/rollout_tokens_per_s",
    "throughput/learner_tokens_per_s",
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One run at bound 1, from start to report."""
    home = tmp_path_factory.mktemp("home")
    done = leeway("up", "--run", "first", *SMALL, cwd=home)
    assert done.returncode == 0, done.stdout + done.stderr
    return home, done.stdout


def test_a_run_ends_well_and_says_where_its_report_is(finished):
    home, said = finished
    assert "report: runs/first/report.html" in said
    for name in ("config.toml", "ledger.jsonl", "report.png", "report.html", "logs/learner.log", "checkpoints"):
        assert (home / "runs/first" / name).exists(), name


def test_every_training_step_has_its_line_with_every_name(finished):
    home, _ = finished
    lines = metrics(home / "runs/first")
    assert [line["version"] for line in lines] == [1, 2, 3, 4, 5, 6]
    for line in lines:
        assert set(line) >= NAMES
        assert line["staleness/head_max"] <= 1
        assert line["batch/groups"] == 4


def test_every_metric_is_in_the_documented_list(finished):
    home, _ = finished
    names = {name for line in metrics(home / "runs/first") for name in line}
    assert {"solved/pass_at_1", "verdict/correct/share", "logprob/sequence_ratio_std", "progress/updates"} <= names
    assert undocumented(names) == set()


def test_every_measurement_of_the_dashboard_is_made(finished):
    home, _ = finished
    assert measurements() - set(metrics(home / "runs/first")[-1]) <= {"throughput/mfu"}  # no peak is known of a CPU


def test_the_steps_are_told_in_the_pipe_and_in_the_learners_log(finished):
    home, said = finished
    assert re.search(r"^step 6/6  reward \d\.\d+  entropy \d\.\d+ \(target 0\.15\)  tokens \d+", said, re.M)
    log = (home / "runs/first/logs/learner.log").read_text()
    assert [int(number) for number in re.findall(r"leader: step (\d)/6  reward ", log)] == [1, 2, 3, 4, 5, 6]


def test_what_the_policy_answered_can_be_read(finished):
    home, _ = finished
    shown = leeway("samples", "first", "--json", cwd=home)
    assert shown.returncode == 0, shown.stderr
    line = json.loads(shown.stdout.splitlines()[0])
    issued = {each["ticket"]: each for each in read(home / "runs/first/ledger.jsonl") if each["event"] == "issued"}
    assert issued[line["ticket"]]["prompt"] == line["prompt_id"]
    assert re.fullmatch(r"\d+\+\d+=", line["prompt"][0]["text"])
    assert len(line["responses"]) == 4
    for each in line["responses"]:
        (segment,) = each["segments"]
        assert segment["by"] == "policy"
        assert each["rewards"] == {"reward": float(each["verdict"] == "correct")}
        assert (f"\\boxed{{{line['gold'][0]}}}" in segment["text"]) == (each["verdict"] == "correct")
    secret = (home / "runs/first/redis-url").read_text().strip()
    assert secret not in (home / "runs/first/samples.jsonl").read_text()
    assert "<h2>Samples</h2>" in (home / "runs/first/report.html").read_text()


def test_recomputed_log_probabilities_agree_with_the_behaviour_ones(finished):
    home, _ = finished
    fresh = [
        line["logprob/abs_diff_mean/staleness_0"]
        for line in metrics(home / "runs/first")
        if "tokens/staleness_0" in line
    ]
    assert fresh
    assert max(fresh) <= 1e-5


def test_the_audit_passes_and_fails_once_a_line_is_gone(finished):
    home, _ = finished
    passed = leeway("audit", "first", cwd=home)
    assert passed.returncode == 0
    assert "24 in 6 steps of 4, each once" in passed.stdout
    lines = (home / "runs/first/ledger.jsonl").read_text().splitlines(keepends=True)
    (home / "forged.jsonl").write_text("".join(lines[:9] + lines[10:]))
    failed = leeway("audit", "forged.jsonl", cwd=home)
    assert failed.returncode == 6
    assert "line 10 is missing" in failed.stderr


def test_nothing_is_left_running(finished):
    home, _ = finished
    assert [role_pids("first", role, home) for role in ("learner", "rollout", "verifier")] == [[], [], []]


def test_a_taken_run_id_is_refused(finished):
    home, _ = finished
    again = leeway("up", "--run", "first", *SMALL, cwd=home)
    assert again.returncode == 5
    assert "run 'first' exists" in again.stderr


def test_status_of_a_finished_run_says_so(finished):
    home, _ = finished
    shown = leeway("status", cwd=home)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.strip() == "run first is finished; its report is runs/first/report.html"
    shown = leeway("status", "first", "--json", cwd=home)
    found = json.loads(shown.stdout)
    assert (shown.returncode, found["situation"], found["stalled"]) == (0, "finished", False)
    assert (found["state"]["step"], found["state"]["steps"]) == (6, 6)


def test_a_complete_run_has_nothing_to_resume(finished):
    home, _ = finished
    again = leeway("up", "--run", "first", "--resume", cwd=home)
    assert again.returncode == 0
    assert "nothing to go on with" in again.stdout


def test_the_report_can_be_made_again(finished):
    home, _ = finished
    assert leeway("report", "first", cwd=home).stdout.strip() == "runs/first/report.html"


STAGES = (
    "stages=[{from_step=1,groups_per_step=6,minibatch_groups=3,learning_rate=5e-5,kl_beta=0.01,clip_high=0.28},"
    "{from_step=19,group_size=6,max_response_tokens=48,temperature=0.9,online_filter=true,kl_beta=0.0,entropy_target=0.3}]"
)


def test_killed_stopped_and_resumed_at_bound_zero_it_ends_with_the_same_weights(tmp_path, wait_until):
    """One run is left alone. The other loses a rollout worker and its learner to SIGKILL, is then stopped by SIGTERM
    in the middle of its second stage, and goes on later, into its third. Bit for bit the same."""
    settings = [
        *SMALL,
        "--set",
        STAGES,
        "--set",
        "flow.max_staleness=0",
        "--set",
        "train.checkpoint_every=2",
        "--set",
        "broker.lease_s=2",
        "--set",
        "metrics.samples_every=1",
        "--set",
        "train.steps=20",
    ]
    calm = leeway("up", "--run", "calm", *settings, cwd=tmp_path)
    assert calm.returncode == 0, calm.stdout + calm.stderr

    hurt, folder = start("up", "--run", "hurt", *settings, cwd=tmp_path), tmp_path / "runs/hurt"
    for steps, role in ((1, "rollout"), (3, "learner")):
        wait_until(lambda steps=steps: len(metrics(folder)) >= steps, f"step {steps}", 300)
        with paused(folder):  # to look for processes takes longer than some steps
            (pid,), made = role_pids("hurt", role, tmp_path), len(metrics(folder))
        wait_until(lambda made=made: len(metrics(folder)) > made, "it is at work again", 300)
        kill(pid)
    wait_until(lambda: "rolled_back" in (folder / "ledger.jsonl").read_text(), "the learner is back", 300)
    wait_until(lambda: len(metrics(folder)) >= 3, "it has caught up", 300)
    hurt.send_signal(signal.SIGTERM)
    said, _ = hurt.communicate(timeout=600)
    assert hurt.returncode in (0, 130), said  # 0 if the last step was already under way

    if hurt.returncode == 130:
        again = leeway("up", "--run", "hurt", "--resume", cwd=tmp_path)
        assert again.returncode == 0, again.stdout + again.stderr
    assert last_checksum(folder) == last_checksum(tmp_path / "runs/calm")
    audited = leeway("audit", "hurt", cwd=tmp_path)
    assert audited.returncode == 0, audited.stderr
    steps = metrics(folder)
    assert [line["step"] for line in steps] == list(range(20))
    shown = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert len(shown) > 1
    assert len({line["ticket"] for line in shown}) == len(shown), "a ticket twice, after two resumes"
    assert [line["stage"] for line in steps] == [0, *[1] * 18, 2]
    assert [line["batch/responses"] for line in steps] == [16, *[24] * 18, 36]
    assert [line["policy/updates"] for line in steps] == [1, *[2] * 19]
    assert [line["learning_rate"] for line in steps] == [1e-4, *[5e-5] * 19]
    assert ["kl/reference" in line for line in steps] == [False, *[True] * 18, False]
    assert [line["entropy/target"] for line in steps] == [*[0.15] * 19, 0.3]


def test_stages_in_many_processes_are_bit_for_bit_those_of_one(tmp_path):
    stages = "stages=[{from_step=1,group_size=6,learning_rate=5e-5,clip_high=0.28,advantage_mask='after'},"
    stages += "{from_step=3,groups_per_step=2,temperature=0.8,online_filter=true,entropy_target=0.3}]"
    done = leeway("prove", "on-policy", "--steps", "5", "--preset", "tiny", *SMALL[4:], "--set", stages, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "equal, bit for bit" in done.stdout
    assert "4, then 4, then 2, each once" in done.stdout


def test_a_killed_supervisor_leaves_nothing_behind_and_the_run_goes_on(tmp_path, wait_until):
    running = start("up", "--run", "orphan", *SMALL, "--set", "train.steps=40", cwd=tmp_path)
    folder = tmp_path / "runs/orphan"
    wait_until(lambda: len(metrics(folder)) >= 2, "the second step", 300)
    with paused(folder) as bus:
        second = leeway("learner", "--run", "orphan", "--redis-url", bus.url, cwd=tmp_path)
    assert second.returncode == 3, second.stderr
    assert "another learner trains this run: process " in second.stderr
    kill(running.pid)
    running.communicate()
    roles = ("learner", "rollout", "verifier")
    wait_until(lambda: not any(role_pids("orphan", role, tmp_path) for role in roles), "every role is gone", 300)
    with (folder / "ledger.jsonl").open("a") as ledger:
        ledger.write('{"line":')  # as if the learner had died in the middle of it
    again = leeway("up", "--run", "orphan", "--resume", cwd=tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert leeway("audit", "orphan", cwd=tmp_path).returncode == 0


def test_the_dial_turns_while_the_run_goes_on(tmp_path, wait_until):
    running = start("up", "--run", "dial", *SMALL, "--set", "train.steps=24", cwd=tmp_path)
    folder = tmp_path / "runs/dial"
    wait_until(lambda: len(metrics(folder)) >= 1, "the first step", 300)
    with paused(folder):
        turned = leeway("set", "max-staleness", "0", cwd=tmp_path)
        assert turned.returncode == 0, turned.stderr
        assert leeway("set", "max-staleness", "lots", cwd=tmp_path).returncode == 2
        assert leeway("set", "learning-rate", "5e-5", cwd=tmp_path).returncode == 0
        shown = leeway("status", "--json", cwd=tmp_path)
        assert shown.returncode == 0, shown.stdout
    running.communicate(timeout=600)
    assert running.returncode == 0
    assert metrics(folder)[-1]["flow/max_staleness"] == 0
    assert (metrics(folder)[0]["learning_rate"], metrics(folder)[-1]["learning_rate"]) == (1e-4, 5e-5)
    assert '"event":"control","name":"max_staleness","value":0' in (folder / "ledger.jsonl").read_text()
    assert leeway("audit", "dial", cwd=tmp_path).returncode == 0
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    named = [f"control/{name}/text_summary" for name in ("learning_rate", "max_staleness", "paused")]
    assert sorted(events.Tags()["tensors"]) == named
    assert len(events.Scalars("loss")) == len(events.Scalars("grad_norm")) == 24


def test_an_injected_lag_is_exact_whatever_the_workers_do_and_survives_a_stop(tmp_path, wait_until):
    """One worker and no break, against two workers and a stop by SIGTERM: the same weights, every group 2 stale."""
    lag = [*SMALL, "--set", "flow.max_staleness=3", "--set", "flow.inject_lag=2", "--set", "train.checkpoint_every=50"]
    calm = leeway("up", "--run", "calm", *lag, cwd=tmp_path)
    assert calm.returncode == 0, calm.stdout + calm.stderr
    stopped, folder = (
        start("up", "--run", "two", *lag, "--set", "rollout.workers=2", cwd=tmp_path),
        tmp_path / "runs/two",
    )
    wait_until(lambda: len(metrics(folder)) >= 3, "the third step", 300)
    stopped.send_signal(signal.SIGTERM)
    said, _ = stopped.communicate(timeout=600)
    assert stopped.returncode in (0, 130), said
    if stopped.returncode == 130:
        again = leeway("up", "--run", "two", "--resume", cwd=tmp_path)
        assert again.returncode == 0, again.stdout + again.stderr
    for run in ("calm", "two"):
        steps = metrics(tmp_path / "runs" / run)
        assert [line["staleness/token_mean"] for line in steps] == [0, 1, 2, 2, 2, 2]
        assert [line["staleness/head_max"] for line in steps] == [0, 1, 2, 2, 2, 2]
        audited = leeway("audit", run, cwd=tmp_path)
        assert audited.returncode == 0, audited.stderr
    assert last_checksum(folder) == last_checksum(tmp_path / "runs/calm")
