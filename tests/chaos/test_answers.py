"""Every answer of the page on what may go wrong is brought about: by a fault, or by a test."""

import re
from pathlib import Path

from leeway_rl.leeway.chaos.faults import FAULTS

ROOT = Path(__file__).resolve().parent.parent.parent

BROUGHT_ABOUT_BY = {
    "a rollout or verifier worker dies or hangs": ["kill", "kill-several", "stop", "stop-role"],
    "one role gets SIGTERM under `leeway up`": ["terminate"],
    "the learner dies": ["kill", "kill-several"],
    "`leeway up` is started twice for one run": [
        "start-twice",
        "tests/integration/test_one_writer.py::second_start_of_a_run",
    ],
    "a second learner takes a run over (a cluster, another folder)": [
        "tests/learner/flow/test_intake.py::superseded_leaves_at_once"
    ],
    "a generation hangs in a rollout worker": [
        "hang",
        "tests/learner/flow/test_overdue.py::issued_again_and_counts_once",
        "tests/common/test_service.py::whose_work_cannot_be_stopped",
    ],
    "a live control cannot be read, or a key of the run holds something else": [
        "tests/learner/flow/test_malformed.py::that_cannot_be_read_is_removed",
        "tests/learner/flow/test_malformed.py::of_another_type_is_removed",
    ],
    "the disk under the run's folder is full": [
        "tests/common/test_metrics.py::a_full_disk_is_told_of_once",
        "tests/common/test_metrics.py::a_ledger_on_a_full_disk_waits",
        "tests/integration/test_full_disk.py::goes_on_when_there_is_room",
    ],
    "a log-probability is not finite, or below -1000": [
        "logprob-nan",
        "tests/learner/flow/test_intake.py::that_no_sampler_gives_is_made_again",
    ],
    "a loss of yours raises, or gives a NaN, a wrong shape or no gradient": [
        "tests/learner/test_own_loss.py::what_fails_in_a_step_stops_it",
        "tests/integration/test_own_loss.py::goes_on_once_it_is_mended",
    ],
    "a checkpoint is torn, or a byte of it has changed": [
        "torn-checkpoint",
        "torn-unfinished",
        "tests/learner/test_apart.py::damaged_bytes",
    ],
    "the learner's ranks have no runs folder in common, or another model, code or package": [
        "tests/learner/test_apart.py::folders_apart_at_save",
        "tests/learner/test_apart.py::other_weights_on_one_rank",
    ],
    "the run is to go on with fewer or more ranks": ["tests/integration/test_fewer_ranks.py::def test_"],
    "the disk under checkpoints or weights is full": ["disk-full", "tests/chaos/test_status.py::full_disk"],
    "you press Ctrl-C, or SIGTERM comes": ["tests/integration/test_empty_redis.py::send_signal"],
    "the embedded server of `leeway up` dies": ["redis-kill"],
    "Redis is away, frozen or cut off": ["redis-freeze", "net-cut", "tests/chaos/test_status.py::cut_off"],
    "Redis is out of memory": ["redis-memory", "tests/chaos/test_status.py::out_of_memory"],
    "Redis refuses: a password, rights, a replica, a cluster, still loading": [
        "tests/common/test_reach.py::asks_for_a_password",
        "tests/common/test_reach.py::cannot_save",
        "tests/common/test_reach.py::a_replica_says_so",
        "tests/common/test_reach.py::does_not_serve_says_so",
    ],
    "the disk of Redis is full (under `leeway up` it is the one of the run's folder)": [
        "tests/common/test_reach.py::full_disk_of_redis_refused_is_tried_again"
    ],
    "an address speaks TLS and the server does not, or the other way round, or something else listens there": [
        "tests/common/test_reach.py::told_from_none_both_ways",
        "tests/common/test_reach.py::what_is_no_redis_is_told",
    ],
    "Redis comes back, with its append-only file": ["redis-kill"],
    "Redis comes back empty": ["redis-empty", "tests/integration/test_empty_redis.py::comes_back_empty"],
    "a message is damaged, or an entry lost": ["payload-flipped", "payload-cut", "entry-flipped", "entry-gone"],
    "a payload of the weights is damaged or lost": ["weights-flipped", "manifest-flipped"],
    "the clock of a host is wrong, or jumps": ["tests/common/test_server_time.py::with_a_wrong_clock"],
    "the clock of Redis jumps": ["clock"],
    "tickets are refunded as `poison`": ["tests/learner/flow/test_intake.py::poisoned_ticket_is_asked_again"],
    "a run's keys should leave Redis": ["tests/leeway/test_acl.py::clean"],
    "`leeway status` says *alarm* (exit code 10)": ["tests/leeway/test_status.py::an_alarm_has_an_exit_code"],
    'a rollout worker ends with "a node keeps two versions of the weights" (exit code 2)': [
        "tests/rollout/test_worker.py::a_node_without_room_is_refused_before_the_model_loads"
    ],
    "a rank of the learner is gone": ["tests/learner/test_watchdog.py::whose_rank_0_is_dead_ends_with_a_word"],
    "a checkpoint cannot be written": ["tests/learner/test_background.py::ends_the_learner_with_its_own_words"],
    "\"weights.transport = 'redis': a version has 3.1 GB\" (exit code 2)": [
        "tests/common/preflight/test_model.py::redis_should_not_hold_is_refused_with_the_sum"
    ],
    '"holds versions of the weights in an older format", "an older Leeway wrote it"': [
        "tests/common/test_weights.py::a_folder_in_the_older_format_is_refused",
        "tests/learner/test_refusals.py::an older Leeway wrote it",
    ],
    "a reward function raises, hangs, or gives no number": [
        "tests/verifier/test_own_rewards.py::what_gives_no_number_is_an_error"
    ],
    "an environment raises, hangs, or gives no answer": [
        "tests/rollout/test_worker.py::whose_environment_fails_is_tried_again_at_once",
        "tests/integration/test_turns.py::that_always_fails_gives_its_groups_up",
    ],
    'a verifier ends with "the code of the rewards here has the digest …" (exit code 2)': [
        "tests/verifier/test_own_rewards.py::other_code_than_the_run_s_is_refused"
    ],
    "a master of a Redis Cluster, or one behind Sentinels, dies": [
        "tests/integration/test_cluster.py::replica_that_lacks_whole_steps_takes_over",
        "tests/integration/test_cluster.py::master_behind_sentinels_is_killed",
    ],
    "the reward stays at 0": ["tests/leeway/test_status.py::every_reward_alike"],
}


def test_every_answer_is_brought_about():
    page = (ROOT / "docs/how-to/when-something-is-wrong.md").read_text()
    tables = re.findall(r"^\| when \|[^\n]*\n\|---\|---\|\n((?:\|[^\n]*\n)+)", page, re.M)
    rows = [row for table in tables for row in re.findall(r"^\| ([^|]+) \|", table, re.M)]
    assert sorted(rows) == sorted(BROUGHT_ABOUT_BY)
    for row, means in BROUGHT_ABOUT_BY.items():
        for each in means:
            path, _, words = each.partition("::")
            assert each in FAULTS or words in (ROOT / path).read_text(), f"{row}: {each}"
