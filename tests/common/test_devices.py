"""Which GPUs a machine has and a process is given, from what the driver's own program prints. No GPU is here."""

import os

import pytest
from leeway_rl.common import devices
from leeway_rl.common.devices import Gpu, Machine, count, given, listed, machine, refuse_too_few
from leeway_rl.common.errors import ConfigError

TWO = """GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-aaaa1111-2222-3333-4444-555566667777)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-aaaa9999-2222-3333-4444-555566667777)
"""
SPLIT = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)
  MIG 1g.5gb      Device  0: (UUID: MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f)
  MIG 1g.5gb      Device  1: (UUID: MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-bbbb9999-2222-3333-4444-555566667777)
"""


def put(folder, text, code=0):
    """A program ``nvidia-smi`` that prints ``text``."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n[ \"$1\" = -L ] || exit 9\ncat <<'END'\n{text}END\nexit {code}\n")
    program.chmod(0o755)


def test_the_driver_s_list_is_read_with_its_mig_instances(tmp_path, monkeypatch):
    put(tmp_path, SPLIT)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert machine().names == (
        "MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f",
        "MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb",
        "1",
    )
    assert machine().gpus[1] == Gpu("GPU-bbbb9999-2222-3333-4444-555566667777")


def test_a_driver_that_does_not_work_means_no_gpu_and_says_why(tmp_path, monkeypatch):
    put(tmp_path, "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n", 9)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    found = machine()
    assert found.gpus == ()
    assert "couldn't communicate with the NVIDIA driver" in found.why


def test_a_machine_without_a_driver_has_none_and_nothing_is_started(monkeypatch):
    monkeypatch.setattr(devices.shutil, "which", lambda _: None)
    monkeypatch.setattr(devices.Path, "glob", lambda *_: iter(()))
    monkeypatch.setattr(devices.subprocess, "run", lambda *_, **__: pytest.fail("something was started"))
    assert machine() == Machine((), "there is no nvidia-smi and no /dev/nvidia0")


def test_without_the_driver_s_program_torch_counts_in_a_process_of_its_own(monkeypatch):
    monkeypatch.setattr(devices.shutil, "which", lambda _: None)
    monkeypatch.setattr(devices.Path, "glob", lambda *_: iter(["/dev/nvidia0"]))
    assert machine() == Machine((), "there is no nvidia-smi, and torch finds none")  # a build for the CPU finds none


HERE = Machine(listed(TWO))
FIRST, SECOND = (gpu.uuid for gpu in HERE.gpus)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, ("0", "1")),
        ("1", ("1",)),
        ("1, 0", ("1", "0")),
        ("", ()),
        ("-1", ()),
        ("NoDevFiles", ()),
        (SECOND, (SECOND,)),
        ("GPU-aaaa9,0", (SECOND, "0")),
    ],
)
def test_what_the_variable_names_is_what_may_be_used(value, found):
    assert given(HERE, {} if value is None else {"CUDA_VISIBLE_DEVICES": value}) == found


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("0,2", f"has no GPU '2'; it has 0 {FIRST}, 1 {SECOND}"),
        ("one", "has no GPU 'one'"),
        ("GPU-bbbb", "has no GPU 'GPU-bbbb'"),
        ("0,,1", "has no GPU ''"),
        ("0,-1", "has no GPU '-1'"),
        ("0,0", "names 0 twice"),
        ("GPU-aaaa", f"GPU-aaaa is the beginning of {FIRST} and of {SECOND}"),
    ],
)
def test_a_gpu_that_is_not_there_is_refused(value, words):
    with pytest.raises(ConfigError, match=words):
        given(HERE, {"CUDA_VISIBLE_DEVICES": value})


def test_mig_instances_are_named_by_uuid_and_the_number_of_their_gpu_means_the_first():
    here = Machine(listed(SPLIT))
    assert given(here, {"CUDA_VISIBLE_DEVICES": "MIG-cba"}) == ("MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb",)
    assert given(here, {"CUDA_VISIBLE_DEVICES": "0,1"}) == ("MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f", "1")


def test_a_process_with_too_few_gpus_is_refused_and_one_with_none_only_where_it_needs_them(tmp_path, monkeypatch):
    put(tmp_path, TWO)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert count() == 2
    refuse_too_few(2, "this", required=True)
    with pytest.raises(
        ConfigError, match="this asks for 4 GPUs in this process; CUDA_VISIBLE_DEVICES = '0,1' gives it 2"
    ):
        refuse_too_few(4, "this", required=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    refuse_too_few(4, "this", required=False)
    with pytest.raises(ConfigError, match="gives it none"):
        refuse_too_few(1, "this", required=True)


def test_on_a_machine_without_gpus_a_variable_that_names_some_changes_nothing(monkeypatch):
    monkeypatch.setattr(devices, "machine", lambda: Machine((), "none"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    refuse_too_few(2, "this", required=False)
