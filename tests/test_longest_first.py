from pathlib import Path

import pytest

from tests.longest_first import SECONDS, in_shares

LONG = sorted(SECONDS, key=SECONDS.get, reverse=True)[:3]


@pytest.mark.parametrize("workers", [2, 3])
def test_each_worker_begins_with_a_long_file_and_every_test_is_there_once(workers):
    files = {f"short-{number}": [f"short-{number}/{test}" for test in range(7)] for number in range(9)}
    files = {**files, LONG[2]: ["c1", "c2"], LONG[0]: ["a1", "a2"], LONG[1]: ["b1", "b2", "b3"]}
    ordered = in_shares(files, workers)
    assert sorted(ordered) == sorted(test for tests in files.values() for test in tests)
    part = len(ordered) // workers  # of the first worker; the later ones share what is left alike
    begins = [ordered[0], ordered[part], *([ordered[part + (len(ordered) - part) // 2]] if workers == 3 else [])]
    assert begins == ["a1", "b1", "c1"][:workers]
    for tests in files.values():
        at = ordered.index(tests[0])
        together = ordered[at : at + len(tests)] == tests
        assert together or tests[0].startswith("short")


def test_what_needs_much_memory_begins_one_part():
    files = {LONG[0]: ["a1", "a2"], "large": ["l1"], LONG[1]: ["b1", "b2"], "short": ["s1", "s2", "s3"]}
    assert in_shares(files, 2, {"large", LONG[1]}) == ["l1", "b1", "b2", "s1", "a1", "a2", "s2", "s3"]


def test_few_tests_and_none_are_ordered_too():
    assert in_shares({}, 2) == []
    assert in_shares({LONG[0]: ["a1", "a2", "a3"], "short": ["s"]}, 2) == ["a1", "a2", "a3", "s"]


def test_the_files_that_take_long_are_there():
    tests = Path(__file__).parent
    assert [name for name in SECONDS if not (tests / name).exists()] == []
