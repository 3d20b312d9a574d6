import gc

import pytest
from leeway_rl.common.large_imports import large_import


@pytest.mark.parametrize("collects", [True, False])
def test_the_collector_is_afterwards_as_it_was_also_where_an_import_fails(collects):
    before = gc.isenabled()
    try:
        (gc.enable if collects else gc.disable)()
        with large_import(), large_import():
            assert not gc.isenabled()
        assert gc.isenabled() == collects
        with pytest.raises(ImportError), large_import():
            import no_such_package  # noqa: F401
        assert gc.isenabled() == collects
    finally:
        (gc.enable if before else gc.disable)()
