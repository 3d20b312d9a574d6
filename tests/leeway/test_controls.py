"""The dial takes what makes sense and says what would."""

import pytest
from leeway_rl.common.config import compose, dump
from leeway_rl.common.errors import BrokerError, ConfigError
from leeway_rl.leeway.running.controls import turn


def begin(bus, *settings):
    bus.record.store_config(dump(compose(["tiny"], list(settings))))
    return bus


def test_a_control_is_stored_for_the_learner(bus, capsys):
    begin(bus)
    turn(bus.url, bus.run, "max-staleness", "4")
    assert bus.overview.controls() == {"max_staleness": "4"}
    assert "max-staleness = 4, from the next ticket on" in capsys.readouterr().out


def test_the_pipeline_depth_is_a_number_or_auto(bus):
    begin(bus)
    for value in ("64", "auto"):
        turn(bus.url, bus.run, "pipeline-depth", value)
        assert bus.overview.controls() == {"pipeline_depth": value}


def test_the_bound_may_be_auto_but_not_where_nothing_may_be_off_policy_or_of_a_set_age(bus):
    begin(bus)
    turn(bus.url, bus.run, "max-staleness", "auto")
    assert bus.overview.controls() == {"max_staleness": "auto"}
    begin(bus, "flow.strictly_on_policy=true", "flow.max_staleness=0")
    with pytest.raises(ConfigError, match=r"max-staleness = auto: the run was started with flow\.strictly_on_policy"):
        turn(bus.url, bus.run, "max-staleness", "auto")
    begin(bus, "flow.max_staleness=2", "flow.inject_lag=2")
    with pytest.raises(ConfigError, match=r"max_staleness = 'auto' with flow\.inject_lag = 2: .* at least 2 is right"):
        turn(bus.url, bus.run, "max-staleness", "auto")


def test_the_target_entropy_is_a_number_or_each_stages_own(bus):
    begin(bus)
    for value in ("0.3", "stage"):
        turn(bus.url, bus.run, "target-entropy", value)
        assert bus.overview.controls() == {"target_entropy": value}


def test_the_learning_rate_is_a_number_or_the_stage_s_own(bus, capsys):
    begin(bus)
    for value, stored in (("3e-5", "3e-05"), ("stage", "stage")):
        turn(bus.url, bus.run, "learning-rate", value)
        assert bus.overview.controls() == {"learning_rate": stored}
        assert f"learning-rate = {stored}, from the next training step on" in capsys.readouterr().out


def test_a_strictly_on_policy_run_keeps_its_promise(bus):
    begin(bus, "flow.strictly_on_policy=true", "flow.max_staleness=0")
    with pytest.raises(ConfigError, match=r"started with flow\.strictly_on_policy = true"):
        turn(bus.url, bus.run, "max-staleness", "1")
    turn(bus.url, bus.run, "max-staleness", "0")
    assert bus.overview.controls() == {"max_staleness": "0"}


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("max-staleness", "-1", "auto, or a whole number of versions, 0 or more"),
        ("max-staleness", "9" * 40, "a whole number of versions, 0 or more, at most 2147483647"),
        ("target-entropy", "inf", "nats a token, 0 or more"),
        ("pipeline-depth", "9" * 40, "at most 2147483647"),
        ("pipeline-depth", "few", "auto, or how many groups may be live"),
        ("pipeline-depth", "0", "auto, or how many groups may be live"),
        ("pipeline-depth", "15", r"flow.pipeline_depth = 15 is below train.groups_per_step = 16"),
        ("learning-rate", "0", "learning-rate = '0': more than 0, at most 1; or stage, for each stage's own"),
        ("learning-rate", "nan", "more than 0, at most 1"),
        ("overdrive", "1", "no live control 'overdrive'"),
    ],
)
def test_a_wrong_control_is_named_with_what_would_be_right(bus, name, value, complaint):
    begin(bus)
    with pytest.raises(ConfigError, match=complaint):
        turn(bus.url, bus.run, name, value)


def test_an_unknown_run_is_named(bus):
    with pytest.raises(BrokerError, match="is not known"):
        turn(bus.url, bus.run, "max-staleness", "1")


def test_the_dial_is_not_turned_below_an_injected_lag(bus):
    begin(bus, "flow.max_staleness=4", "flow.inject_lag=2")
    turn(bus.url, bus.run, "max-staleness", "2")
    with pytest.raises(ConfigError, match=r"max_staleness = 1 with flow\.inject_lag = 2: .* at least 2 is right"):
        turn(bus.url, bus.run, "max-staleness", "1")
    assert bus.overview.controls() == {"max_staleness": "2"}
