"""What several tests of the verifier start from."""

from collections.abc import Iterator

import pytest
from leeway_rl.common.config import Verifier
from leeway_rl.common.sandbox import room
from leeway_rl.common.sandbox.sandbox import Sandbox
from leeway_rl.verifier import process_seat
from leeway_rl.verifier.code.answer import CodeGrader


@pytest.fixture(scope="module")
def sandboxes() -> Iterator[list[Sandbox]]:
    """Every sandbox that a grader of the module's tests has started, in order, those that are gone included."""
    started: list[Sandbox] = []

    class Listed(Sandbox):
        def __init__(self, **options: object) -> None:
            super().__init__(**options)  # type: ignore[arg-type]
            started.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "Sandbox", Listed)
        yield started


@pytest.fixture(scope="module")
def grader(sandboxes: list[Sandbox]) -> Iterator[CodeGrader]:
    grader = CodeGrader(Verifier(code_timeout_s=60))
    yield grader
    grader.close()


@pytest.fixture
def never_starved(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that runs out is the response's fault, however little of a processor its process had: on a machine that
    is far too busy, even what computes without end gets less than a fifth of one."""
    monkeypatch.setattr(process_seat, "STARVED_SHARE", 0.0)
