import gc
import sys

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


def test_a_package_is_not_found_meanwhile_unless_it_was_there_before(monkeypatch):
    monkeypatch.delitem(sys.modules, "tomlkit", raising=False)
    with pytest.raises(ImportError), large_import(without="tomlkit"):
        import tomlkit
    with large_import(without="tomlkit"):
        assert sys.modules["tomlkit"] is None
    import tomlkit

    with large_import(without="tomlkit"):
        assert sys.modules["tomlkit"] is tomlkit
