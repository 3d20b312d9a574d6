import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
import transformers
from leeway_rl.common.errors import ConfigError
from leeway_rl.learner import attention, one_call
from leeway_rl.learner.attention import choose, difference, in_one_call, one_by_one, packed_attention
from leeway_rl.learner.model import load_module
from tiny_policy import make_config, make_model

LAYOUT = ((5, 7, 0, 3), (4, 0), (1, 6))
"""Three groups: one with a response of a single token, which has no position of its own; one of that kind alone."""
TOKENS = 26


def _exact(query, key, value, bounds, scale, window):
    """Causal attention within each sequence of [tokens, heads, width], by whole scores."""
    outputs = []
    for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        own = [tensor[start:end].transpose(0, 1)[None] for tensor in (query, key, value)]
        mask = torch.ones(end - start, end - start, dtype=torch.bool).tril()
        mask = mask if window is None else mask.triu(1 - window)
        gqa = query.shape[1] != key.shape[1]
        outputs.append(F.scaled_dot_product_attention(*own, mask, scale=scale, enable_gqa=gqa)[0].transpose(0, 1))
    return torch.cat(outputs)


def _torch_2_10(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, is_causal=False, return_aux=None):
    assert is_causal
    assert query.shape == key.shape, "no shared keys yet"
    return _exact(query, key, value, cu_seq_q, None, None)


def _torch_2_11(
    query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, return_aux=None, scale=None, window_size=(-1, -1)
):
    assert query.shape == key.shape, "no shared keys yet"
    return _torch_2_12(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, scale=scale, window_size=window_size)


def _torch_2_12(
    query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *,
    return_aux=None, scale=None, window_size=(-1, -1), enable_gqa=False, seqused_k=None, block_table=None
):  # fmt: skip
    assert query.shape[1] == key.shape[1] or enable_gqa
    assert cu_seq_q.dtype == torch.int32
    assert max_q == int(cu_seq_q.diff().max())
    left, right = window_size
    assert right == 0, "causal"
    return _exact(query, key, value, cu_seq_q, scale, None if left == -1 else left + 1)


def _flash(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p=0.0, softmax_scale=None,
           causal=False, window_size=(-1, -1)):  # fmt: skip
    assert causal
    left, right = window_size
    assert right == (-1 if left == -1 else 0)
    return _exact(q, k, v, cu_seqlens_q, softmax_scale, None if left == -1 else left + 1)


KERNELS = {
    "torch 2.10": one_call.of_torch(_torch_2_10),
    "torch 2.11": one_call.of_torch(_torch_2_11),
    "torch 2.12": one_call.of_torch(_torch_2_12),
    "FlashAttention": one_call.of_flash_attention(_flash),
}


def _heads(heads, key_heads, seed=0):
    torch.manual_seed(seed)
    return tuple(torch.randn(1, n, TOKENS, 8, requires_grad=True) for n in (heads, key_heads, key_heads))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("key_heads", [4, 2])
@pytest.mark.parametrize(("scaling", "window"), [(None, None), (0.7, None), (None, 4), (None, 100)])
def test_one_call_gives_what_the_reference_gives(kernel, key_heads, scaling, window):
    if kernel == "torch 2.10" and window == 4:
        pytest.skip("has no window")
    found = []
    for way in (lambda *given: in_one_call(KERNELS[kernel], *given), one_by_one):
        leaves = _heads(4, key_heads)
        output = way(leaves, LAYOUT, scaling, window)
        weights = torch.linspace(-1, 1, output.numel()).reshape(output.shape)
        found.append([output.detach(), *torch.autograd.grad((output * weights).sum(), leaves)])
    assert found[0][0].shape == (1, TOKENS, 4, 8)
    for ours, reference in zip(*found, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-5, atol=1e-5)


def test_the_installed_torchs_own_function_takes_what_it_is_given(monkeypatch):
    """Its kernel has no CPU build, so the operator under the function is replaced."""
    from torch.nn.attention import varlen

    def kernel(query, key, value, bounds, bounds_k, longest, longest_k, is_causal, scale, window, gqa, *others):
        assert (is_causal, gqa, window, others) == (True, True, [-1, 0], (None, None, None))
        return _exact(query, key, value, bounds, scale, None), None, None

    monkeypatch.setattr(torch.ops, "torch_attn", SimpleNamespace(_varlen_attn=kernel), raising=False)
    leaves = _heads(4, 2)
    ours = in_one_call(one_call.of_torch(varlen.varlen_attn), leaves, LAYOUT, 0.5)
    torch.testing.assert_close(ours, one_by_one(leaves, LAYOUT, 0.5), rtol=1e-5, atol=1e-5)


def test_on_the_cpu_every_backend_is_the_reference():
    def never(*_):
        raise AssertionError

    heads = _heads(4, 2)
    output, _ = packed_attention(torch.nn.Module(), *heads, None, layout=LAYOUT, kernel=never)
    assert torch.equal(output, one_by_one(heads, LAYOUT))


def test_the_check_for_a_gpu_sees_a_right_kernel_and_a_wrong_one(monkeypatch):
    def wrong(*given, **named):
        return _flash(*given, **named) * 1.1

    what = {"heads": 4, "key_heads": 2, "width": 8, "layout": LAYOUT, "device": torch.device("cpu")}
    for function, near in ((_flash, True), (wrong, False)):
        module = ModuleType("flash_attn")
        module.flash_attn_varlen_func = function
        monkeypatch.setitem(sys.modules, "flash_attn", module)
        found = difference("flash", **what)
        assert found.keys() == {"output", "by query", "by key", "by value"}
        assert all((share < 0.02) == near for share in found.values()), found


# --- what is chosen, and what is refused -----------------------------------------------------------------------------


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def _shape(**changes):
    own = {"num_attention_heads": 28, "num_key_value_heads": 4, "hidden_size": 3584, "sliding_window": None, **changes}
    return SimpleNamespace(get_text_config=lambda: SimpleNamespace(**own))


def _asked(attention="auto", dtype="bfloat16", tokens=32_768):
    lengths = {"train__max_response_tokens": tokens, "train__micro_batch_tokens": 40_000}
    return make_config("none", model__dtype=dtype, train__attention=attention, **lengths)


def test_a_cpu_takes_the_reference():
    assert choose(_asked(), _shape()) == choose(_asked("sdpa"), _shape()) == "sdpa"


@pytest.mark.parametrize("kind", ["varlen", "flash"])
def test_what_needs_a_gpu_is_refused_without_one_before_a_model_loads(kind, tmp_path, monkeypatch):
    def never(*_, **__):
        raise AssertionError

    config = make_config(make_model(tmp_path / "model"), train__attention=kind)
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", never)
    with pytest.raises(ConfigError, match=f"train.attention = '{kind}': it needs a GPU, and torch finds none here; '"):
        load_module(config)


def test_a_gpu_takes_one_call_in_bfloat16(gpu, monkeypatch):
    assert choose(_asked(), _shape()) == "varlen"
    assert choose(_asked("varlen"), _shape(sliding_window=100)) == "varlen"
    monkeypatch.setattr(one_call, "find_spec", lambda name: name == "flash_attn" or None)
    assert choose(_asked(), _shape()) == "flash"
    with pytest.raises(ConfigError, match=r"'varlen': torch.nn.attention.varlen is not installed, .* torch 2\.10"):
        choose(_asked("varlen"), _shape())


def test_a_gpu_refuses_what_its_kernels_do_not_take(gpu):
    with pytest.raises(ConfigError, match=r"'flash': flash_attn is not installed, .* flash-attn; 'auto' or 'sdpa'"):
        choose(_asked("flash"), _shape())
    with pytest.raises(ConfigError, match=r"'varlen': it computes in bfloat16 alone, and model.dtype is 'float32'"):
        choose(_asked("varlen", "float32"), _shape())
    with pytest.raises(ConfigError, match=r"'varlen': the model's heads are 512 wide, .* takes 256 at most"):
        choose(_asked("varlen"), _shape(head_dim=512))


def test_float32_on_a_gpu_is_refused_where_the_scores_would_be_held_whole(gpu):
    # 28 heads, 16 + 32,768 tokens, 4 bytes: 28 x 32,784² x 4 = 120.4e9 bytes.
    with pytest.raises(ConfigError, match=r"'float32' on a GPU: 28 heads share 4 of keys.* 32784 tokens .* 120\.4 GB"):
        choose(_asked(dtype="float32"), _shape())
    with pytest.raises(ConfigError, match="sliding window of 4096 tokens needs a mask"):
        choose(_asked("sdpa"), _shape(sliding_window=4096))
    assert choose(_asked(dtype="float32"), _shape(num_key_value_heads=28)) == "sdpa", "no shared keys: a kernel has it"
    assert choose(_asked(dtype="float32", tokens=500), _shape()) == "sdpa", "a short response's scores are small"
    assert choose(_asked(dtype="float32"), _shape(num_key_value_heads=None)) == "sdpa"


def test_no_name_is_one_that_transformers_takes_for_its_own():
    from transformers.utils.generic import is_flash_attention_requested

    assert not any(is_flash_attention_requested(requested_attention_implementation=n) for n in attention.NAMES.values())
