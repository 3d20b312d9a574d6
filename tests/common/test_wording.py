"""What people are told of times and sizes."""

import pytest
from leeway_rl.common.activity import Activity, Doing
from leeway_rl.common.wording import age, byte_size, counted, lasting, words


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "-"),
        (1, "1 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (2_900_000, "2.9 MB"),
        (131_000_000_000, "131 GB"),
        (1.5e15, "1500 TB"),
    ],
)
def test_bytes_are_told_in_the_largest_unit_that_they_fill(count, said):
    assert byte_size(count) == said


@pytest.mark.parametrize(
    ("seconds", "said"), [(-1, "0 s"), (119.9, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h")]
)
def test_a_time_is_told_in_seconds_minutes_or_hours(seconds, said):
    assert age(seconds) == said


def test_one_thing_is_told_in_the_singular():
    assert [counted(number, "group") for number in (0, 1, 2, 1000)] == [
        "0 groups",
        "1 group",
        "2 groups",
        "1,000 groups",
    ]
    assert [counted(number, "ticket waits", "tickets wait") for number in (1, 2)] == [
        "1 ticket waits",
        "2 tickets wait",
    ]


@pytest.mark.parametrize(
    ("doing", "said", "for_long"),
    [
        (Doing(Activity.LOADING_MODEL), "loading the model", "loading the model for 9 s"),
        (
            Doing(Activity.WAITING_FOR_GROUPS, lacking=1, due=1, ticket=4),
            "waiting for 1 of 1 group, ticket 4 the oldest",
            "waiting for 1 of 1 group for 9 s, ticket 4 the oldest",
        ),
        (
            Doing(Activity.WAITING_FOR_DISK, path="/a|b"),
            "waiting for room: the disk under /a|b is full",
            "waiting for room for 9 s: the disk under /a|b is full",
        ),
    ],
)
def test_a_time_stands_where_it_belongs(doing, said, for_long):
    assert words(doing) == said
    assert lasting(doing, 9.0) == for_long


@pytest.mark.parametrize("kind", Activity)
def test_every_activity_has_words(kind):
    doing = Doing(kind, step=1, version=1, path="p", lacking=1, due=2, worker="w")
    assert "for 9 s" in lasting(doing, 9.0)
