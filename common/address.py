"""The address of Redis: how a command learns it, and how much of it may be shown.

A URL may hold a password. Leeway never puts it on a command line of its own, where every user of the machine could read
it, nor into a log, the ledger, a report or an error message.
"""

import os
from pathlib import Path
from urllib.parse import urlsplit

from .errors import BrokerError
from .files import path_of

VARIABLE = "LEEWAY_REDIS_URL"
"""Environment variable that stands in for ``--redis-url``. Our own commands use it for the roles that they start."""
LOCAL = "redis://127.0.0.1:6379/0"
"""The address if none is given."""
HELP = f"redis://user:password@host:port/db, rediss:// with TLS, or @FILE that holds it; ${VARIABLE} by default."


def resolve(said: str | None) -> str:
    """The URL from ``--redis-url`` (a URL, or ``@`` and a file whose first line is one), else from the environment,
    else the local one. ``BrokerError`` if the file cannot be read."""
    text = said or os.environ.get(VARIABLE) or LOCAL
    if not text.startswith("@"):
        return text
    path = path_of(text[1:])
    try:
        lines = path.read_text().split()
    except (OSError, UnicodeDecodeError) as error:
        raise BrokerError(f"--redis-url {text!r}: {getattr(error, 'strerror', None) or 'not a text file'}") from error
    if not lines:
        raise BrokerError(f"--redis-url {text!r}: the file is empty")
    return lines[0]


def forget() -> None:
    """Take the URL out of this process's environment, since what it starts (graders, engines, compilers) needs none."""
    os.environ.pop(VARIABLE, None)


def public(url: str) -> str:
    """``url`` without user, password and options."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"
    except ValueError:
        return "the given --redis-url"


def keep(secret: str, path: Path) -> None:
    """Write a URL or a password into a file that only this user can read."""
    path.unlink(missing_ok=True)  # a file that is there would keep its mode, which may be wider
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w") as file:
        file.write(secret + "\n")
