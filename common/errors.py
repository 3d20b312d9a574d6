"""Every error that a user can meet, each with the exit code of its process.

A ``LeewayError`` is printed as one line without a stack trace: it says what is wrong, where, and what would be right.
Any other exception that escapes is a defect of ours and keeps its trace.
"""

import errno
import sys
from collections.abc import Callable

from .appending import is_out_of_room

_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
"""What the system says of a path that somebody named and that cannot be used, beside that its disk is full. A file that
is missing is not among these: whoever needs one that a user names looks for it, so it is a defect of ours."""


class LeewayError(Exception):
    """A failure that the user can act on."""

    exit_code = 1

    def __str__(self) -> str:
        """The message as a text that can be written anywhere: half a character, out of a row or a file's name, is shown
        as its escape."""
        text = super().__str__()
        return text if text.isascii() else text.encode(errors="backslashreplace").decode()


class ConfigError(LeewayError):
    """A wrong key or value in a preset, a ``--set``, or an impossible combination of values."""

    exit_code = 2


class DataError(LeewayError):
    """A prompt file, model folder or ledger that cannot be used as it is."""

    exit_code = 3


class Unreadable(DataError):
    """A row that cannot be read."""

    def __init__(self, where: str, reason: str, detail: str) -> None:
        super().__init__(f"{where}: {reason}: {detail}")
        self.reason, self.detail = reason, detail
        """``reason`` is the same for every row of its kind; ``detail`` says what was found in this one."""


class BrokerError(LeewayError):
    """Redis cannot be reached, refuses us, or does not hold the run."""

    exit_code = 4


class NoRunError(BrokerError):
    """Redis answers, but does not hold the run."""


class RunExistsError(LeewayError):
    """The run id is taken."""

    exit_code = 5


class AuditError(LeewayError):
    """The ledger does not prove what it must prove."""

    exit_code = 6


class RoleDiedError(LeewayError):
    """A supervised role ended before its work was done."""

    exit_code = 7


class NoProfileError(LeewayError):
    """There is nobody who could trace a training step, or the trace was not made in time."""

    exit_code = 11


class DecodeError(LeewayError):
    """A message that cannot be decoded. It goes to the dead letters, and work goes on."""


class OtherSchemaError(DecodeError):
    """A message of a build with another schema."""


class EnvironmentFailed(LeewayError):
    """An environment that raised, overran its clock, lost its process, or answered what it must not. Its group is
    generated again, and is given up when it has failed too often. It is never a reward of 0."""


class WeightsError(LeewayError):
    """A published version that cannot be read back whole (checksum, missing base, missing shard)."""


def of_the_system(error: OSError) -> DataError:
    """What the system says of a file or a folder, with its path."""
    path = error.filename if error.filename2 is None else error.filename2  # of a move: where to
    return DataError(error.strerror if path is None else f"{path}: {error.strerror}")


def why_unread(error: OSError | UnicodeDecodeError) -> str:
    """Why a text file could not be read."""
    return (error.strerror if isinstance(error, OSError) else None) or "not a text file"


def told(command: str, work: Callable[[], int | None]) -> int:
    """Run ``work`` and return its exit code. A ``LeewayError`` has a code of its own and is told in one line on
    standard error, after the name of the ``command`` if there is one. So is a file or a folder that the system does
    not let us use, as a ``DataError``."""
    try:
        return work() or 0
    except LeewayError as error:
        told: LeewayError = error
    except OSError as error:
        if error.errno not in _REFUSED and not is_out_of_room(error):
            raise
        told = of_the_system(error)
    print(f"{command}: {told}" if command else told, file=sys.stderr)
    return told.exit_code
