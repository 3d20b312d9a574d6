"""What several tests of the verifier start from."""

from collections.abc import Iterator

import pytest
from leeway_rl.common.config import Verifier
from leeway_rl.verifier.code.answer import CodeGrader


@pytest.fixture(scope="module")
def grader() -> Iterator[CodeGrader]:
    grader = CodeGrader(Verifier(code_timeout_s=10))
    yield grader
    grader.close()
