"""A thread of a role hangs where it computes, while the process's other threads, and so its heartbeat, go on.

SIGSTOP would stop the whole process. So a library is preloaded that handles one real-time signal, which is sent to a
single thread: the handler does not return for as long as the driver wants. A thread that holds Python's lock is let go
again, because its whole process would stand still, which is another fault (``stop``).
"""

import ctypes
import time
from pathlib import Path
from typing import Any

from .preload import Preloaded

VARIABLE = "LEEWAY_CHAOS_HANG"
SIGNAL = 50
"""A real-time signal that nobody else uses."""

_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

static volatile long long *numbers; /* whether to hang; how many threads have begun to */
static int (*holds_lock)(void);

static void hang(int number) {
    int before = errno;
    struct timespec moment = {0, 20000000};
    (void)number;
    if (numbers[0] && !holds_lock()) {
        __sync_fetch_and_add(&numbers[1], 1);
        while (numbers[0]) nanosleep(&moment, 0);
    }
    errno = before;
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("LEEWAY_CHAOS_HANG");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    struct sigaction action = {0};
    holds_lock = (int (*)(void))dlsym(RTLD_DEFAULT, "PyGILState_Check");
    if (file < 0 || !holds_lock) return; /* not Python */
    void *page = mmap(0, 16, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (page == MAP_FAILED) return;
    numbers = page;
    action.sa_handler = hang;
    action.sa_flags = SA_RESTART;
    sigaction(50, &action, 0);
}
"""


class Hanging(Preloaded):
    """Makes threads hang in Python processes that were started with ``environment``."""

    def __init__(self, folder: Path) -> None:
        """Compile into ``folder``; ``OSError`` where there is no compiler."""
        super().__init__(folder, "hanging", _SOURCE, VARIABLE, numbers=2)
        # Unlike os.kill, tgkill signals one thread. Not every C library has it.
        library = ctypes.CDLL(None)
        if not hasattr(library, "tgkill"):
            raise OSError("the C library has no tgkill")
        self._tell: Any = library.tgkill

    def hang(self, pid: int, thread: int, tries: int = 40) -> bool:
        """Make a thread hang until ``release``. False where the thread is gone, or held Python's lock at every try."""
        self.write(0, 1)
        before = self.read(1)
        for _ in range(tries):
            if self._tell(pid, thread, SIGNAL) != 0:
                break
            until = time.monotonic() + 0.05
            while time.monotonic() < until:
                if self.read(1) > before:
                    return True
                time.sleep(0.002)
        self.release()  # a signal that is still under way must not make it hang later, unknown to the driver
        return False

    def release(self) -> None:
        """Let every hanging thread go on."""
        self.write(0, 0)


def busiest(pid: int, for_s: float = 0.3) -> int | None:
    """The id of the thread, other than the main one, that used most processor time within ``for_s`` seconds; None where
    no thread computed."""
    before = _ticks(pid)
    time.sleep(for_s)
    gained = {thread: now - before.get(thread, now) for thread, now in _ticks(pid).items() if thread != pid}
    most = max(gained, key=lambda thread: gained[thread], default=None)
    return most if most is not None and gained[most] >= 2 else None


def _ticks(pid: int) -> dict[int, int]:
    """Processor time of every thread, in clock ticks."""
    found = {}
    for task in Path(f"/proc/{pid}/task").glob("*"):
        try:
            fields = (task / "stat").read_text().rpartition(") ")[2].split()
        except OSError:
            continue
        found[int(task.name)] = int(fields[11]) + int(fields[12])
    return found
