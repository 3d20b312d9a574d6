"""The folder tree tells the truth: no arrow between wings, no import in a circle, the desk's rooms in an order, one
package speaks to Redis, help answers at once."""

import ast
import re
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
WINGS = ("rollout", "verifier", "learner", "data", "evaluation")


def imports(path):
    """Names imported by a file, with the wing first: ``common.types``, ``redis``."""
    parents = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module
        elif isinstance(node, ast.ImportFrom):
            base = parents[: len(parents) - node.level + 1]
            yield ".".join([*base, *([node.module] if node.module else [])])


def files(folder):
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("wing", WINGS)
def test_wings_import_common_and_never_each_other(wing):
    others = {*WINGS, "leeway", "tests", "examples", "studies"} - {wing}
    for path in files(wing):
        assert not {name.split(".")[0] for name in imports(path)} & others, path


def test_common_imports_nothing_of_ours():
    for path in files("common"):
        assert not {name.split(".")[0] for name in imports(path)} & {*WINGS, "leeway", "leeway_rl", "studies"}, path


def modules():
    """Every module of the product by its dotted name, and where it stands."""
    found = {}
    for folder in ("common", "leeway", "studies", *WINGS):
        for path in files(folder):
            found[".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")] = path
    return found


def test_no_module_imports_itself_by_way_of_others():
    known = modules()
    graph = {}
    for name, path in known.items():
        tree = ast.parse(path.read_text())
        graph[name] = {each for each in imported_modules(tree.body, path) if each in known} - {name}
    list(TopologicalSorter(graph).static_order())  # raises with the circle


def imported_modules(nodes, path):
    """What relative imports among ``nodes`` may name: the module, and the names taken from it, which may be modules."""
    parents = path.relative_to(ROOT).parts[:-1]
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.level:
            base = ".".join([*parents[: len(parents) - node.level + 1], *([node.module] if node.module else [])])
            yield from [base, *(f"{base}.{alias.name}" for alias in node.names)]


ROOMS = (
    "looking",
    "reporting",
    "planning",
    "running",
    "examining",
    "watching",
    "proving",
    "chaos",
    "sweeping",
    "evaluating",
    "tracking",
    "commands",
)
"""Of the desk; each uses those before it alone."""


def test_the_rooms_of_the_desk_stand_in_an_order():
    room_of = {path: path.relative_to(ROOT).parts[1] for path in files("leeway")}  # a room may have folders of its own
    assert {room for path, room in room_of.items() if path.parent.name != "leeway"} == set(ROOMS)
    for path, room in room_of.items():
        known = ROOMS[: ROOMS.index(room)] if room in ROOMS else ROOMS
        used = {name.split(".")[1] for name in imports(path) if name.startswith("leeway.")} - {room, "finding"}
        assert used <= set(known), path


def test_every_package_is_installed():
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    there = {".".join(["leeway_rl", *path.parent.relative_to(ROOT).parts]) for path in packages()}
    assert listed == there


def packages():
    here = [ROOT / "__init__.py"]
    product = ("common", "leeway", "studies", "examples", "presets", *WINGS)
    return here + [path for folder in product for path in files(folder) if path.name == "__init__.py"]


PURE_FLOW = {
    "leeway/planning/simulate.py": {
        *("learner.flow.auto_bound", "learner.flow.pacing", "learner.flow.staleness", "learner.flow.tickets"),
    }
}
"""What the desk may run of a role: the pure rules that leeway plan simulates a system with."""


def test_the_desk_imports_no_role_but_the_rules_it_simulates():
    for path in files("leeway"):
        found = {name for name in imports(path) if name.split(".")[0] in {*WINGS, "studies"}}
        assert found == PURE_FLOW.get(path.relative_to(ROOT).as_posix(), set()), path


def test_planning_needs_no_torch():
    check = "import sys, leeway_rl.leeway.planning.plan; print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


AROUND_THE_QUEUE = {"leeway/chaos/damage.py", "leeway/chaos/pile.py", "leeway/chaos/run.py"}
"""What damages a run on purpose cannot do so by the means that keep it whole."""


def test_one_package_speaks_to_redis():
    speakers = {
        path.relative_to(ROOT).as_posix()
        for folder in ("common", "leeway", *WINGS)
        for path in files(folder)
        if "redis" in {name.split(".")[0] for name in imports(path)}
    }
    assert {path for path in speakers - AROUND_THE_QUEUE if not path.startswith("common/queue/")} == set()


def test_nobody_else_reaches_through_it_for_the_client():
    for folder in ("common", "leeway", *WINGS):
        for path in files(folder):
            reached = {
                f"{ast.unparse(node)} in line {node.lineno}"
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Attribute)
                and node.value.attr in ("redis", "_redis")
            }
            assert path.is_relative_to(ROOT / "common/queue") or not reached, (path, reached)


VIEWS = {
    "rollout": {"rollout"},
    "verifier": {"verifier"},
    "learner": {"learner"},
    "evaluation": {"learner", "rollout"},
    "data": set(),
    "leeway": {"desk", "probe"},
}
"""Whose view of Redis each wing has: a module of ``common/queue`` for each user of the ACL, and ``probe`` for whoever
asks what a server is."""
PLAYS_ROLES = {"leeway/chaos/reclaim.py"}


def test_every_wing_has_its_own_view_of_redis_and_no_other():
    for wing, views in VIEWS.items():
        found = {
            name.removeprefix("common.queue.")
            for path in files(wing)
            if path.relative_to(ROOT).as_posix() not in PLAYS_ROLES
            for name in imports(path)
            if name.startswith("common.queue.")
        }
        assert found - {"connection", "entries"} == views, wing


def test_the_views_of_redis_do_not_import_each_other_in_a_circle():
    left = {path.stem: set(queue_imports(path)) for path in files("common/queue")}
    while left:
        free = {name for name, needs in left.items() if not needs & left.keys()}
        assert free, f"a circle among {sorted(left)}"
        left = {name: needs for name, needs in left.items() if name not in free}


def queue_imports(path):
    """Modules of the package that one of its modules imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            yield from [node.module] if node.module else [alias.name for alias in node.names]


ONCE = {
    r"\bos\.fsync\(": {"common/files.py", "common/appending.py"},
    r"\.(flock|lockf)\(": {"common/locks.py"},
    r"(?<![.\w])Table\(": {"common/tables.py"},
}
"""What is done in one place for everybody: forcing to disk, locking, tables for people."""


def test_what_every_process_needs_is_written_once():
    texts = {path: path.read_text() for folder in ("common", "leeway", "studies", *WINGS) for path in files(folder)}
    for pattern, places in ONCE.items():
        found = {path.relative_to(ROOT).as_posix() for path, text in texts.items() if re.search(pattern, text)}
        assert found == places, pattern


def test_wire_and_queue_parts_need_no_torch():
    names = ("queue.learner", "queue.rollout", "queue.verifier", "queue.desk", "weights", "config")
    heavy = f"import sys, {', '.join(f'leeway_rl.common.{name}' for name in names)}; "
    check = "print(sorted({'torch', 'transformers', 'vllm', 'deepspeed'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", heavy + check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


HELP = """
import atexit, sys
sys.argv = ["leeway", "--help"]
from leeway_rl.leeway.cli import main
HEAVY = {"torch", "vllm", "transformers", "numpy", "redis", "pydantic", "matplotlib"}
atexit.register(lambda: print(sorted(HEAVY & set(sys.modules))))
main()
"""


def test_help_imports_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"


LINES_A_FILE, LINES_A_FUNCTION, METHODS_A_CLASS = 400, 60, 25


@pytest.mark.parametrize(
    "folder", ["common", "leeway", "studies", "examples", "presets", "benchmarks", "tests/proofs", *WINGS]
)
def test_a_function_fits_on_a_screen_and_a_file_on_a_few(folder):
    too_long = {
        f"{path.relative_to(ROOT).as_posix()} {what}"
        for path in files(folder)
        for what in past_bounds(path.read_text())
    }
    assert not too_long


def past_bounds(source):
    """What in a file is larger than a person takes in at once, each with its size."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    if source.count("\n") > LINES_A_FILE:
        yield f"has {source.count(chr(10))} lines"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, functions) and (lines := node.end_lineno - node.lineno + 1) > LINES_A_FUNCTION:
            yield f"{node.name} has {lines} lines"
        if isinstance(node, ast.ClassDef):
            methods = sum(isinstance(each, functions) for each in node.body)
            if methods > METHODS_A_CLASS:
                yield f"{node.name} has {methods} methods"


def test_what_is_past_a_bound_is_found():
    long = "def long():\n" + "    pass\n" * LINES_A_FUNCTION
    wide = "class Wide:\n" + "".join(f"    def f{n}(self): ...\n" for n in range(METHODS_A_CLASS + 1))
    assert [*past_bounds(long)] == ["long has 61 lines"]
    assert [*past_bounds(wide)] == ["Wide has 26 methods"]
    assert [*past_bounds("pass\n" * (LINES_A_FILE + 1))] == ["has 401 lines"]
    assert not [*past_bounds("def short():\n" + "    pass\n" * (LINES_A_FUNCTION - 1))]


def test_a_foreign_package_called_common_changes_nothing(tmp_path):
    (tmp_path / "common").mkdir()
    (tmp_path / "common" / "__init__.py").write_text("raise RuntimeError('the foreign one')\n")
    words = [sys.executable, "-c", "from leeway_rl.common import types; print(types.__name__)"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "leeway_rl.common.types"


def test_no_room_is_called_by_a_name_that_says_nothing():
    names = {path.stem for folder in ("common", "leeway", "examples", "studies", *WINGS) for path in files(folder)}
    assert not names & {"utils", "util", "helpers", "misc", "manager", "common"}
