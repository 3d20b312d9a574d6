"""What a grading process says of its own memory."""

import resource
import sys


def forget_peak() -> None:
    """Reset the kernel's record of our largest resident size. If that fails, the record covers our whole life."""
    try:
        with open("/proc/self/clear_refs", "wb") as clear:
            clear.write(b"5")
    except OSError:
        pass


def peak_bytes() -> int:
    """Most memory that was resident since ``forget_peak``, in bytes."""
    try:
        with open("/proc/self/status", "rb") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith(b"VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def address_space() -> int:
    """The process's address space in bytes; 0 if the system does not say."""
    if sys.platform != "linux":
        return 0
    with open("/proc/self/statm", "rb") as statm:
        return int(statm.read().split()[0]) * resource.getpagesize()
