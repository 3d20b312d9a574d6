"""Keeps a sandbox warm for one thread, and replaces it when it is gone."""

from .errors import SandboxError
from .sandbox import Sandbox


class SandboxRoom:
    """Starts a sandbox when it is first needed. One thread uses it; ``kill`` is safe from any."""

    def __init__(self, *, isolated: bool, packages: str = "", preload: tuple[str, ...] = ()) -> None:
        """All are those of ``Sandbox``."""
        self._isolated = isolated
        self._packages, self._preload = packages, preload
        self._sandbox: Sandbox | None = None
        self._closed = False

    def sandbox(self) -> Sandbox:
        """A running sandbox. ``ConfigError`` if there can be none, ``SandboxError`` after ``close`` or ``kill``."""
        if self._sandbox is not None and not self._sandbox.alive:
            self._sandbox.close()
            self._sandbox = None
        if self._closed:
            raise SandboxError("the grader is closed")
        if self._sandbox is None:
            self._sandbox = Sandbox(isolated=self._isolated, packages=self._packages, preload=self._preload)
            if self._closed:  # as it started, when there was nothing to kill yet
                self._sandbox.kill()
                raise SandboxError("the grader is closed")
        return self._sandbox

    def kill(self) -> None:
        """End the sandbox from another thread, for good."""
        self._closed = True
        if (sandbox := self._sandbox) is not None:
            sandbox.kill()

    def close(self) -> None:
        """End the sandbox for good and release what it held."""
        self._closed = True
        if self._sandbox is not None:
            self._sandbox.close()
            self._sandbox = None
