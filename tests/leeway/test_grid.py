"""What a grid means, and what it refuses."""

import pytest
from leeway_rl.common.errors import ConfigError
from leeway_rl.common.keys import RUN_ID
from leeway_rl.leeway.sweeping.grid import axes, configurations, points, settings

GRID = ["flow.max_staleness=0,4", "entropy.control=adaptive,none"]


def test_the_grid_is_the_product_of_its_keys():
    assert [setting.values for setting in settings(axes(GRID))] == [
        ("0", "adaptive"),
        ("0", "none"),
        ("4", "adaptive"),
        ("4", "none"),
    ]


def test_a_point_says_its_setting_and_its_seed():
    made = {point.name: point for point in points(axes(GRID), [0, 1])}
    assert len(made) == 8
    point = made["max_staleness-4_control-none_seed-1"]
    assert point.settings == ["flow.max_staleness=4", "entropy.control=none", "flow.seed=1"]
    assert point.setting.label == "max_staleness=4, control=none"


def test_a_grid_without_keys_is_one_setting():
    assert [point.name for point in points([], [0, 1])] == ["seed-0", "seed-1"]


def test_a_seed_is_finished_before_the_next_and_its_order_is_drawn_the_same_every_time():
    grid = axes(["flow.max_staleness=0,1,2,4,8", "entropy.control=adaptive,none"])
    order = points(grid, [0, 1, 2])
    assert [point.seed for point in order] == [0] * 10 + [1] * 10 + [2] * 10
    drawn = [[point.setting for point in order if point.seed == seed] for seed in (0, 1, 2)]
    assert drawn[0] != drawn[1] != drawn[2] != drawn[0]
    assert all(set(block) == set(settings(grid)) for block in drawn)
    assert points(grid, [0, 1, 2]) == order
    assert points(grid, [0]) == order[:10], "more seeds do not change the order of the first"


def test_commas_inside_brackets_and_quotes_belong_to_the_value():
    (axis,) = axes(["objective.correction_range=[0.5, 2.0],[0.1, 5.0]"])
    assert axis.values == ("[0.5, 2.0]", "[0.1, 5.0]")
    (axis,) = axes(['data.suffix="a, b",c'])
    assert axis.values == ('"a, b"', "c")
    names = [point.name for point in points(axes(["objective.correction_range=[0.5, 2.0],[0.1, 5.0]"]), [0])]
    assert all(RUN_ID.fullmatch(name) for name in names)


def test_keys_that_end_the_same_are_named_in_full():
    grid = axes(["model.dtype=float32,bfloat16", "rollout.dtype=float32,bfloat16"])
    assert [axis.label for axis in grid] == ["model.dtype", "rollout.dtype"]


def test_what_composes_is_what_was_said():
    made = configurations(axes(GRID), ["tiny"], ["train.steps=3"])
    assert sorted((config.flow.max_staleness, config.entropy.control) for config in made.values()) == [
        (0, "adaptive"),
        (0, "none"),
        (4, "adaptive"),
        (4, "none"),
    ]
    assert {config.train.steps for config in made.values()} == {3}


@pytest.mark.parametrize(
    ("texts", "complaint"),
    [
        (["flow.max_staleness"], "write section.key=v1,v2"),
        (["max_staleness=1"], "write section.key=v1,v2"),
        (["flow.max_staleness=1,,2"], "write section.key=v1,v2"),
        (["flow.max_staleness=1,1"], "the value 1 is there twice"),
        (["flow.max_staleness=1", "flow.max_staleness=2"], "given twice; write all its values into one"),
        (["flow.seed=0,1"], "the seeds are given by --seeds"),
    ],
)
def test_a_grid_of_another_form_is_refused(texts, complaint):
    with pytest.raises(ConfigError, match=complaint):
        axes(texts)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("flow.max_stalenes=1,2", "did you mean 'flow.max_staleness'"),
        ("flow.max_staleness=1,-2", r"flow\.max_staleness = -2"),
        ("flow.max_staleness=1,many", r"flow\.max_staleness = 'many'"),
        ("flow.max_staleness=4,4.0", "'max_staleness=4' and 'max_staleness=4.0' are the same configuration"),
    ],
)
def test_a_key_or_value_that_the_configuration_refuses_is_refused(text, complaint):
    with pytest.raises(ConfigError, match=complaint):
        configurations(axes([text]), ["tiny"], [])


def test_values_that_no_name_tells_apart_are_refused():
    with pytest.raises(ConfigError, match="would both be called"):
        points(axes(['data.suffix="a!","a?"']), [0])


def test_a_name_too_long_for_a_run_is_refused():
    with pytest.raises(ConfigError, match="1 to 64 letters"):
        points(axes(["flow.max_staleness=" + "1" * 60]), [0])
