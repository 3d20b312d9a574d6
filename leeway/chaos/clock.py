"""A wall clock that can be set: a library, compiled on the spot and preloaded into processes, adds the number in a file
to every time of day that they read. Monotonic clocks are not touched, as on a machine whose clock is set.
"""

from pathlib import Path

from .preload import Preloaded

VARIABLE = "LEEWAY_CHAOS_CLOCK"

_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static volatile long long *ahead; /* seconds */

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("LEEWAY_CHAOS_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *page = mmap(0, sizeof *ahead, PROT_READ, MAP_SHARED, file, 0);
    if (page != MAP_FAILED) ahead = page;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int code = real(clock, now);
    if (!code && ahead && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += *ahead;
    return code;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec exact;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &exact)) return -1;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
"""


class Clock(Preloaded):
    """The wall clock of every process that was started with ``environment``."""

    def __init__(self, folder: Path) -> None:
        """Compile into ``folder``; ``OSError`` where there is no compiler."""
        super().__init__(folder, "clock", _SOURCE, VARIABLE)
        self.set(0)

    def set(self, ahead_s: int) -> None:
        """Put the clock ``ahead_s`` seconds ahead of the true time of day; a negative number puts it behind."""
        self.write(0, ahead_s)
