import os

os.environ.setdefault("DS_ACCELERATOR", "cpu")  # before anything imports deepspeed

import pytest
import torch
from tiny_policy import make_model


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Bits depend on the number of threads."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model_path(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("qwen2"))
