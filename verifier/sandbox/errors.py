"""How a job in a sandbox can fail, and whose fault that is."""

from __future__ import annotations


class SandboxError(Exception):
    """The sandbox itself failed: our fault, never the solution's."""


class Overrun(Exception):
    """The clock ran out."""


class OutOfMemory(Exception):
    """The job's processes held more memory than they may, or were more than may be."""


class Garbled(Exception):
    """The other end sent what is no frame. Only a solution's process can do that."""


class HungUp(Garbled):
    """The link closed: a solution ended its job, or somebody the sandbox."""
