import gc
import subprocess
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


def test_what_the_first_large_import_brought_is_never_looked_through_again_and_files_of_later_code_are_written_out(
    tmp_path,
):
    program = f"""
import gc
from leeway_rl.common.large_imports import large_import
with large_import():
    import json.tool
first = gc.get_freeze_count()
def own_loss(file=open({str(tmp_path / "log")!r}, "w")):
    file.write("a line")
own_loss()
with large_import():
    import xml.dom.minidom
print(first > 1000, gc.get_freeze_count() <= first)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["True", "True"]
    assert (tmp_path / "log").read_text() == "a line"
