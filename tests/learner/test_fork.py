"""A fork has a folder of its own from which a resume goes on, and its ledger says where it comes from. No model."""

import json
import shutil

import pytest
from leeway_rl.common.config import compose, dump, parse
from leeway_rl.common.errors import AuditError, ConfigError, DataError, RunExistsError
from leeway_rl.common.files import checksum
from leeway_rl.common.ledger import Ledger
from leeway_rl.common.lineage import lineage_of
from leeway_rl.learner import checkpoint
from leeway_rl.learner.fork import fork
from leeway_rl.learner.startup import first_line, refuse_lost_start
from leeway_rl.leeway.looking.left import last_state
from leeway_rl.leeway.looking.standing import standing
from leeway_rl.leeway.proving.audit import audit

from tests.leeway.test_audit import issue, step, take, train

SETTINGS = ["train.steps=6", "train.groups_per_step=2", "train.group_size=2", "flow.max_staleness=1"]


def write_checkpoint(run, number, state):
    """What a learner leaves, but for the weights, which nobody here reads."""
    folder = checkpoint.path_of(run / "checkpoints", number)
    (folder / "policy").mkdir(parents=True)
    (folder / "policy" / "weights.pt").write_bytes(b"weights of step %d" % number)
    (folder / checkpoint.STATE).write_text(json.dumps(state))
    names = ("policy/weights.pt", checkpoint.STATE)
    made = {
        "layout": {"zero_stage": 0, "ranks": 1},
        "files": {name: (folder / name).stat().st_size for name in names},
        "sha256": {name: checksum(folder / name) for name in names},
    }
    (folder / checkpoint.COMPLETE).write_text(json.dumps(made))


def state_at(version, ledger, **more):
    return {
        "version": version,
        "next_ticket": 6,
        "live": {"3": 0, "4": 0, "5": 0},
        "asked": {"3": "p:3", "4": "p:0", "5": "p:1"},
        "curriculum": {"dropped": [], "solved": {}},
        "max_staleness": 1,
        "asked_bound": 1,
        "guard": {"lowered": 0, "calm": 0},
        "overflow": "wait",
        "pipeline_depth": "auto",
        "entropy_target": "stage",
        "learning_rate": "stage",
        "spent_s": 9.0,
        "controller": {"coefficient": 0.01},
        "retries": {"poisoned": {"1-1": "p:1"}, "waiting": {}, "taken": {}},
        "refunds": {"zero_advantage": 1},
        "tokens_expired": 5,
        "pacing": [],
        "ledger_line": ledger.line,
        "incarnation": 1,
        "checksums": "shards",
    } | more


def begin(folder, *settings, **more):
    """A run at work that has made one step, with its checkpoint. Returns its ledger too."""
    config = compose(["tiny"], [*SETTINGS, *settings])
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(dump(config))
    ledger = Ledger(folder / "ledger.jsonl")
    ledger.write("run", **first_line(folder.name, config))
    ledger.write("started", incarnation=1, version=0)
    for ticket in range(4):
        issue(ledger, ticket, 0)
    ledger.write("refunded", ticket=1, version=0, reason="zero_advantage")
    issue(ledger, 4, 0)
    take(ledger, 0, [0, 2])
    train(ledger, 0, 0, 0)
    train(ledger, 2, 0, 0)
    step(ledger, 0, [0, 2])
    issue(ledger, 5, 1)
    write_checkpoint(folder, 1, state_at(1, ledger, **more))
    ledger.write("checkpoint", step=1)
    return ledger


@pytest.fixture
def parent(tmp_path):
    begin(tmp_path / "parent").close()
    return tmp_path / "parent"


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def forked_state(into):
    return json.loads((checkpoint.newest(into / "checkpoints") / checkpoint.STATE).read_text())


def test_a_fork_with_nothing_changed_stands_where_its_parent_stood(parent, tmp_path):
    before = contents(parent)
    origin = fork(parent, tmp_path / "child")
    assert contents(parent) == before
    assert (origin.run, origin.step, origin.checksum, origin.changed) == ("parent", 1, "0", {})
    config = (tmp_path / "child" / "config.toml").read_text()
    assert parse(config) == parse((parent / "config.toml").read_text())
    state, kept = forked_state(tmp_path / "child"), forked_state(parent)
    own = ("ledger_line", "incarnation", "retries", "refunds", "tokens_expired", "spent_s")
    assert {key: state[key] for key in state if key not in own} == {key: kept[key] for key in kept if key not in own}
    assert state["ledger_line"] == 2
    path = checkpoint.newest(tmp_path / "child" / "checkpoints")
    assert checkpoint.changed(path, json.loads((path / checkpoint.COMPLETE).read_text())) == []
    found = standing(tmp_path / "child")
    assert (found.state, found.step, found.steps) == ("stopped", 1, 6)
    told = last_state(tmp_path / "child")
    assert (told["step"], told["forked_from"]) == ("1", "run parent, step 1 (weights 0); nothing changed")


def go_on(folder):
    """What a learner writes that resumes the fork, up to its next step."""
    ledger = Ledger(folder / "ledger.jsonl")
    ledger.write("rolled_back", to_line=2)
    ledger.write("started", incarnation=1, version=1)
    for ticket in (3, 4, 5):
        issue(ledger, ticket, 1, reissued=True)
    take(ledger, 1, [3, 4])
    train(ledger, 3, 1, 1)
    train(ledger, 4, 1, 1)
    step(ledger, 1, [3, 4])
    ledger.close()
    return ledger


def test_the_audit_replays_a_fork_from_its_own_ledger_and_tells_the_lineage(parent, tmp_path):
    child, grandchild = tmp_path / "child", tmp_path / "grandchild"
    fork(parent, child, settings=["objective.kl_beta=0.001"])
    shutil.rmtree(parent)
    written = go_on(child)
    account = audit(child / "ledger.jsonl", unfinished=True)
    assert (account.version, account.trained, sorted(account.live), account.next_ticket) == (2, 2, [5], 6)
    told = account.describe()
    assert "  forked from      run parent, step 1 (weights 0); objective.kl_beta 0.0 -> 0.001\n" in told
    assert "  tickets issued   0\n  trained          2 in 1 step of 2, each once\n" in told
    more = {"live": {"5": 0}, "asked": {"5": "p:1"}}
    write_checkpoint(child, 2, state_at(2, written, **more))
    fork(child, grandchild, step=2, settings=["train.learning_rate=2e-6"])
    lineage = lineage_of(grandchild)
    assert [(each.run, each.step) for each in lineage] == [("child", 2), ("parent", 1)]
    assert [*lineage[0].changed] == ["train.learning_rate"]
    assert "forked from      run parent, step 1" in audit(grandchild / "ledger.jsonl", unfinished=True).describe()


def test_the_audit_finds_a_ticket_of_a_fork_that_its_books_do_not_have(parent, tmp_path):
    fork(parent, tmp_path / "child")
    ledger = Ledger(tmp_path / "child" / "ledger.jsonl")
    ledger.write("rolled_back", to_line=2)
    ledger.write("started", incarnation=1, version=1)
    issue(ledger, 2, 1, reissued=True)
    ledger.close()
    with pytest.raises(AuditError, match=r"line 5 \(issued\): ticket 2 is issued again without a rollback"):
        audit(tmp_path / "child" / "ledger.jsonl", unfinished=True)


def test_live_controls_come_along_as_they_stood_and_a_setting_has_the_last_word(tmp_path):
    guard = {"lowered": 1, "calm": 4}
    begin(
        tmp_path / "parent", asked_bound=3, max_staleness=2, guard=guard, entropy_target=0.3, learning_rate=1e-5
    ).close()
    origin = fork(tmp_path / "parent", tmp_path / "kept")
    assert origin.changed == {"flow.max_staleness": [1, 3]}
    state = forked_state(tmp_path / "kept")
    assert (state["max_staleness"], state["asked_bound"], state["guard"]["lowered"]) == (2, 3, 1)
    assert (state["entropy_target"], state["learning_rate"], state["spent_s"]) == (0.3, 1e-5, 0.0)
    assert audit(tmp_path / "kept" / "ledger.jsonl", unfinished=True).max_staleness == 2
    fork(
        tmp_path / "parent",
        tmp_path / "set",
        settings=["flow.max_staleness=0", "entropy.target=0.4", "train.learning_rate=2e-5"],
    )
    state = forked_state(tmp_path / "set")
    assert (state["max_staleness"], state["asked_bound"], state["guard"]["lowered"]) == (0, 0, 0)
    now = parse((tmp_path / "set" / "config.toml").read_text())
    assert (state["entropy_target"], now.entropy.target) == ("stage", 0.4)
    assert (state["learning_rate"], now.train.learning_rate) == ("stage", 2e-5)


def test_a_learning_rate_that_was_turned_is_let_go_of_where_stages_have_another_one(tmp_path):
    begin(tmp_path / "parent", learning_rate=3e-6, entropy_target=0.3).close()
    for stage, expected in (("kl_beta=1e-3", (3e-6, 0.3)), ("learning_rate=1e-7", ("stage", 0.3))):
        into = tmp_path / stage.partition("=")[0]
        fork(tmp_path / "parent", into, settings=[f"stages=[{{from_step=4,{stage}}}]"])
        state = forked_state(into)
        assert (state["learning_rate"], state["entropy_target"]) == expected


def test_a_fork_under_auto_begins_within_its_own_ceiling(tmp_path):
    learned = {"asked_bound": "auto", "max_staleness": 3, "auto_bound": {"gains": [0.3, 0.2, 0.1]}}
    begin(tmp_path / "parent", "flow.max_staleness=auto", **learned).close()
    fork(tmp_path / "parent", tmp_path / "same")
    assert forked_state(tmp_path / "same")["max_staleness"] == 3
    fork(tmp_path / "parent", tmp_path / "lower", settings=["flow.staleness_ceiling=1"])
    assert forked_state(tmp_path / "lower")["max_staleness"] == 1
    assert audit(tmp_path / "lower" / "ledger.jsonl", unfinished=True).max_staleness == 1


def test_the_live_tickets_that_have_no_place_in_the_fork_stay_behind(parent, tmp_path):
    fork(parent, tmp_path / "child", settings=["flow.max_staleness=0"])
    state = forked_state(tmp_path / "child")
    assert (state["live"], state["asked"], state["next_ticket"]) == ({"3": 0, "4": 0}, {"3": "p:3", "4": "p:0"}, 6)
    fork(parent, tmp_path / "longer", settings=["train.steps=60", "train.groups_per_step=4"])
    assert [*forked_state(tmp_path / "longer")["live"]] == ["3", "4", "5"]


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ("model.path=other", r"^model.path = 'other': a fork keeps .*: the checkpoint's weights are of that model"),
        ("data.path=other.jsonl", r"^data.path = 'other.jsonl': a fork keeps .*: the books say which of its prompts"),
        ("flow.inject_lag=1", r"^flow.inject_lag = 1: a fork keeps 0: the checkpoint holds the weights"),
        ("train.steps=1", r"^train.steps = 1: the checkpoint has made 1 step, so none is left to train"),
        ("train.zero_stage=3", r"^the checkpoint cannot go on with this configuration: it was written under ZeRO 0"),
        ("objective.kl_beta=-1", r"objective.kl_beta"),
    ],
)
def test_what_a_checkpoint_cannot_go_on_with_is_refused_by_name_and_leaves_nothing(parent, tmp_path, setting, why):
    with pytest.raises(ConfigError, match=why):
        fork(parent, tmp_path / "child", settings=[setting])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parent"]


def test_stages_that_had_begun_keep_their_place(tmp_path):
    opened = {"curriculum": {"dropped": [[]], "solved": {}}}
    begin(tmp_path / "parent", "stages=[{from_step=2},{from_step=4}]", **opened).close()
    for stages in ("[]", "[{from_step=3}]", "[{from_step=1},{from_step=2}]"):
        with pytest.raises(ConfigError, match=r"by step 1 the run had begun those at \[0, 2\], which keep"):
            fork(tmp_path / "parent", tmp_path / "child", settings=[f"stages={stages}"])
    fork(tmp_path / "parent", tmp_path / "child", settings=["stages=[{from_step=2,max_response_tokens=20}]"])


def test_a_checkpoint_that_is_not_there_or_not_whole_is_named(parent, tmp_path):
    with pytest.raises(DataError, match=r"has no checkpoint of step 3; there is 1$"):
        fork(parent, tmp_path / "child", step=3)
    weights = parent / "checkpoints" / "step-000001" / "policy" / "weights.pt"
    weights.write_bytes(weights.read_bytes()[::-1])
    with pytest.raises(DataError, match=r"is damaged: the bytes of policy/weights.pt"):
        fork(parent, tmp_path / "child", step=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parent"]
    with pytest.raises(RunExistsError):
        fork(parent, parent)
    with pytest.raises(ConfigError, match="run id"):
        fork(parent, tmp_path / "a run")


def test_a_fork_whose_checkpoint_is_lost_does_not_begin_with_the_initial_model(parent, tmp_path):
    fork(parent, tmp_path / "child")
    refuse_lost_start(parent)
    with pytest.raises(DataError, match=r"this fork of parent at step 1, so there is nothing to go on from"):
        refuse_lost_start(tmp_path / "child")
