"""How a job in a sandbox can fail, and whose fault that is."""


class SandboxError(Exception):
    """The sandbox itself failed. That is our fault, never the solution's."""


class Overrun(Exception):
    """The clock ran out."""


class OutOfMemory(Exception):
    """The job's processes held too much memory, or there were too many of them."""


class Garbled(Exception):
    """The other end sent something that is not a frame. Only a solution's process can do that."""


class HungUp(Garbled):
    """The link closed: a solution ended its job, or somebody ended the sandbox."""
