"""What people are told of times and sizes."""

import pytest
from leeway_rl.common.wording import age, byte_size


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
