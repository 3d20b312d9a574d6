"""A checkpoint becomes a Hugging Face folder that others load: the same weights, the same logits."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from leeway_rl.common.config import compose, dump, parse
from leeway_rl.common.errors import DataError
from leeway_rl.common.ledger import Ledger
from leeway_rl.common.preflight.model import check_model
from leeway_rl.common.tensors import flatten
from leeway_rl.common.weights import checksum
from leeway_rl.learner import checkpoint
from leeway_rl.learner.export import export
from leeway_rl.learner.objective.entropy import ControllerState
from leeway_rl.learner.policy import Policy
from tiny_policy import make_model
from train_on_ranks import run
from two_ranks import on_two_ranks

from tests.architectures import ROUTED
from tests.model_folders import make_folder

FOLDER = Path(__file__).resolve().parent
STATE = {"version": 2, "incarnation": 3, "ledger_line": 3}


@pytest.fixture(scope="module")
def base(tmp_path_factory, tiny_model):
    """A base model with random weights, and the tokenizer of the tiny preset's."""
    folder = tmp_path_factory.mktemp("base")
    make_model(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        shutil.copyfile(tiny_model / name, folder / name)
    return folder


def tiny_run(base, folder, *settings, zero_stage=0):
    """A run folder with one checkpoint after two training steps, and the weights it holds."""
    fixed = [f"model.path={base}", f"train.zero_stage={zero_stage}", "train.steps=2", "train.learning_rate=0.01"]
    config = compose(["tiny"], [*fixed, *settings])
    policy = Policy(config)
    run(policy, config, range(2), ControllerState())
    weights = policy.named_weights()
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(dump(config))
    checkpoint.save(policy, folder / "checkpoints", 2, STATE, keep=1)
    return weights


@pytest.fixture(scope="module")
def finished(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "mine"
    return folder, tiny_run(base, folder)


def loaded(folder, **options):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, **options)
    return model, dict(model.named_parameters())


@pytest.mark.parametrize("zero_stage", [0, 2, 3])
def test_transformers_loads_the_weights_of_every_zero_stage_bit_for_bit(base, tmp_path, zero_stage):
    trained = tiny_run(base, tmp_path / "mine", zero_stage=zero_stage)
    out = export(tmp_path / "mine", tmp_path / "out")
    check_model(compose(["tiny"], [f"model.path={out}"]), "train", "sample")
    _, weights = loaded(out)
    assert weights.keys() == trained.keys()
    assert all(torch.equal(weights[name], trained[name]) for name in trained)


@torch.no_grad()
def test_the_exported_model_gives_the_policy_s_logits_and_the_base_model_s_tokens(finished, base, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, trained = finished
    out = export(folder, tmp_path / "out")
    model, _ = loaded(out)
    policy = AutoModelForCausalLM.from_pretrained(base)
    before = policy(torch.tensor([[1, 2, 3]])).logits
    policy.load_state_dict(trained, strict=False)
    policy.tie_weights()
    logits = model(torch.tensor([[1, 2, 3]])).logits
    assert torch.equal(logits, policy(torch.tensor([[1, 2, 3]])).logits)
    assert not torch.equal(logits, before)
    chats = [AutoTokenizer.from_pretrained(path) for path in (out, base)]
    ours, theirs = (tokenizer.apply_chat_template([{"role": "user", "content": "12+34"}]) for tokenizer in chats)
    assert ours == theirs
    assert (out / "generation_config.json").read_bytes() == (base / "generation_config.json").read_bytes()


def test_bfloat16_halves_the_file_and_config_json_says_so(finished, tmp_path):
    folder, trained = finished
    out = export(folder, tmp_path / "out", dtype="bfloat16")
    assert json.loads((out / "config.json").read_text())["dtype"] == "bfloat16"
    _, weights = loaded(out, dtype="auto")
    assert all(torch.equal(weights[name], trained[name].bfloat16()) for name in trained)
    whole = export(folder, tmp_path / "whole")
    sizes = [(path / "model.safetensors").stat().st_size for path in (out, whole)]
    assert sizes[0] < 0.55 * sizes[1]


def test_a_bias_that_decides_between_experts_is_published_and_exported_in_float32(base, tmp_path):
    own = make_folder(tmp_path / "base", "glm4_moe", noise=0.05, vocab_size=61, head_dim=32, **ROUTED)
    trained = tiny_run(own, tmp_path / "mine")
    out = export(tmp_path / "mine", tmp_path / "out", dtype="bfloat16")
    bias = "model.layers.1.mlp.gate.e_score_correction_bias"
    model, weights = loaded(out, dtype="auto")
    assert torch.equal(model.state_dict()[bias], trained[bias])
    assert weights["model.layers.1.mlp.experts.down_proj"].dtype == torch.bfloat16


def test_the_card_carries_configuration_step_stage_seed_ledger_and_metrics(base, tmp_path):
    stages = "stages=[{from_step = 1, group_size = 4, max_response_tokens = 96}]"
    tiny_run(base, tmp_path / "mine", stages, "flow.seed=77")
    lines = [{"version": step, "step": step - 1, "reward/mean": step / 10, "grad_norm": 0.5} for step in (1, 2, 3)]
    (tmp_path / "mine/metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    card = (export(tmp_path / "mine", tmp_path / "out") / "README.md").read_text()
    shown = parse(card.split("```toml\n")[1].split("```")[0])
    assert shown == parse((tmp_path / "mine/config.toml").read_text())
    for row in (
        "| training step | 2 of 2 |",
        "| stage | 2 of 2, from step 1 |",
        "of at most 96 tokens",
        "| seed | 77 |",
        "| incarnation | 3 (starts of the learner) |",
        "| ledger position | line 3 |",
        f"torch {torch.__version__}",
        "| 2 | 0.2 | 0.5 |",
        "# license: yours",
    ):
        assert row in card, row
    assert "| 3 | 0.3 |" not in card  # made after the checkpoint


def test_weights_that_the_ledger_does_not_know_are_not_exported(base, tmp_path):
    weights = tiny_run(base, tmp_path / "mine")
    digest = checksum(flatten(weights, "float32").buffer)
    for name, published in (("true", digest), ("forged", "0" * 64)):
        ledger = Ledger(tmp_path / f"{name}.jsonl")
        ledger.write("run", run="mine")
        ledger.write("step", step=1, version=2)
        ledger.write("published", version=2, checksum=published)
        ledger.close()
    (tmp_path / "true.jsonl").rename(tmp_path / "mine/ledger.jsonl")
    assert digest in (export(tmp_path / "mine", tmp_path / "out") / "README.md").read_text()
    (tmp_path / "forged.jsonl").replace(tmp_path / "mine/ledger.jsonl")
    with pytest.raises(DataError, match=f"have the checksum {digest}; the ledger has 0000"):
        export(tmp_path / "mine", tmp_path / "forged")
    assert not (tmp_path / "forged").exists()


def test_a_run_of_an_older_leeway_is_not_called_forged(base, tmp_path):
    tiny_run(base, tmp_path / "mine")
    ledger = Ledger(tmp_path / "mine/ledger.jsonl")
    ledger.write("run", run="mine")
    ledger.write("step", step=1, version=2, checksum="0" * 64)  # as it was written before versions had shards
    ledger.close()
    with pytest.raises(DataError, match=r"line 2 is an older Leeway's.*export the run with the Leeway that trained it"):
        export(tmp_path / "mine", tmp_path / "out")


def test_a_checkpoint_with_a_changed_byte_is_not_exported_where_no_ledger_would_tell(base, tmp_path):
    tiny_run(base, tmp_path / "mine")
    (file,) = (tmp_path / "mine/checkpoints").rglob("mp_rank_00_model_states.pt")
    body = bytearray(file.read_bytes())
    body[len(body) // 2] ^= 1
    file.write_bytes(body)
    with pytest.raises(DataError, match=r"damaged: the bytes of policy/mp_rank_00_model_states.pt"):
        export(tmp_path / "mine", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_exported_is_named_and_leaves_nothing(finished, tmp_path):
    folder, _ = finished
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").write_text("keep")
    with pytest.raises(DataError, match="full is not empty"):
        export(folder, tmp_path / "full")
    with pytest.raises(DataError, match=r"nobody/config.toml: no such run"):
        export(tmp_path / "nobody", tmp_path / "out")
    with pytest.raises(DataError, match="no checkpoint of step 3; there is 2"):
        export(folder, tmp_path / "out", step=3)
    (tmp_path / "early").mkdir()
    (tmp_path / "early/config.toml").write_text((folder / "config.toml").read_text())
    with pytest.raises(DataError, match="no complete checkpoint"):
        export(tmp_path / "early", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["early", "full"]
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine"]


def test_a_torn_checkpoint_is_passed_over_and_refused_by_name(base, tmp_path):
    tiny_run(base, tmp_path / "mine")
    path = tmp_path / "mine/checkpoints/step-000002"
    largest = max(path.rglob("*.pt"), key=lambda file: file.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-1])
    with pytest.raises(DataError, match="no complete checkpoint"):
        export(tmp_path / "mine", tmp_path / "out")
    with pytest.raises(DataError, match="step-000002 is not complete"):
        export(tmp_path / "mine", tmp_path / "out", step=2)


@pytest.mark.slow
@pytest.mark.parametrize("zero_stage", [0, 3])
def test_what_two_ranks_wrote_is_exported_by_one_process(base, tmp_path, zero_stage):
    on_two_ranks("save_on_ranks.py", base, tmp_path, zero_stage)
    trained = torch.load(tmp_path / "weights.pt", weights_only=True)
    _, weights = loaded(export(tmp_path / "mine", tmp_path / "out"))
    assert weights.keys() == trained.keys()
    assert all(torch.equal(weights[name], trained[name]) for name in trained)
    assert f"ZeRO {zero_stage} on 2 ranks" in (tmp_path / "out/README.md").read_text()
