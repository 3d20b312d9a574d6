from contextlib import nullcontext

import pytest
import torch
from leeway_rl.learner.objective.token_op import CHUNK_ELEMENTS, chunk_elements_on, token_op
from torch.utils._python_dispatch import TorchDispatchMode


def _plain(hidden_TH, weight_VH, taken_T, bias_V, temperature):
    logits_TV = hidden_TH @ weight_VH.t() + (0 if bias_V is None else bias_V)
    log_softmax_TV = torch.log_softmax(logits_TV / temperature, -1)
    entropy_T = -(log_softmax_TV.exp() * log_softmax_TV).sum(-1)
    return log_softmax_TV.gather(-1, taken_T[:, None]).squeeze(-1), entropy_T


def _inputs(dtype, tokens=37, hidden=24, vocabulary=211, bias=True):
    torch.manual_seed(1)
    return (
        torch.randn(tokens, hidden, dtype=dtype, requires_grad=True),
        torch.randn(vocabulary, hidden, dtype=dtype, requires_grad=True),
        torch.randint(0, vocabulary, (tokens,)),
        torch.randn(vocabulary, dtype=dtype, requires_grad=True) if bias else None,
    )


def _losses(tokens, dtype):
    by_logprob_T, by_entropy_T = torch.randn(tokens, dtype=dtype), torch.randn(tokens, dtype=dtype)
    return {
        "both": lambda logprobs, entropy, at: by_logprob_T[at] * logprobs.exp() + by_entropy_T[at] * entropy**2,
        "logprob": lambda logprobs, entropy, at: by_logprob_T[at] * logprobs.exp(),
        "entropy": lambda logprobs, entropy, at: by_entropy_T[at] * entropy**2,
    }


@pytest.mark.parametrize("loss", ["both", "logprob", "entropy"])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_values_and_gradients_equal_those_of_whole_logits(dtype, tolerance, bias, temperature, loss):
    hidden_TH, weight_VH, taken_T, bias_V = _inputs(dtype, bias=bias)
    loss_of = _losses(len(taken_T), dtype)[loss]
    leaves = [leaf for leaf in (hidden_TH, weight_VH, bias_V) if leaf is not None]

    logprobs_T, entropy_T = _plain(hidden_TH, weight_VH, taken_T, bias_V, temperature)
    expected = torch.autograd.grad(3.0 * loss_of(logprobs_T, entropy_T, slice(None)).sum(), leaves)
    output = token_op(
        hidden_TH, weight_VH, taken_T, bias_V=bias_V, temperature=temperature, loss_of=loss_of, chunk_elements=5 * 211
    )
    gradients = torch.autograd.grad(3.0 * output.loss_sum, leaves)

    close = {"rtol": tolerance, "atol": tolerance * 10}
    torch.testing.assert_close(output.logprobs_T, logprobs_T.detach(), **close)
    torch.testing.assert_close(output.entropy_T, entropy_T.detach(), **close)
    for gradient, reference in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, reference, **close)


def test_the_entropy_over_a_real_vocabulary_is_that_of_float64():
    torch.manual_seed(0)
    hidden_TH, weight_VH = torch.randn(20, 64), torch.randn(151_936, 64) / 8
    found = token_op(hidden_TH, weight_VH, torch.zeros(20, dtype=torch.int64)).entropy_T
    log_softmax_TV = (hidden_TH @ weight_VH.t()).double().log_softmax(-1)
    exact_T = -(log_softmax_TV.exp() * log_softmax_TV).sum(-1)
    torch.testing.assert_close(found.double(), exact_T, rtol=0, atol=5e-6)


def test_measuring_without_a_gradient_gives_the_same_values():
    hidden_TH, weight_VH, taken_T, bias_V = _inputs(torch.float32)
    loss_of = _losses(len(taken_T), torch.float32)["both"]
    trained = token_op(hidden_TH, weight_VH, taken_T, bias_V=bias_V, loss_of=loss_of)
    with torch.no_grad():
        measured = token_op(hidden_TH, weight_VH, taken_T, bias_V=bias_V, loss_of=loss_of)
    assert all(torch.equal(a, b) for a, b in zip(trained, measured, strict=True))
    assert token_op(hidden_TH, weight_VH, taken_T).loss_sum is None


def test_the_size_of_the_chunks_changes_nothing_but_rounding():
    hidden_TH, weight_VH, taken_T, _ = _inputs(torch.float32)
    loss_of = _losses(len(taken_T), torch.float32)["both"]
    gradients = [
        torch.autograd.grad(
            token_op(hidden_TH, weight_VH, taken_T, loss_of=loss_of, chunk_elements=size).loss_sum, weight_VH
        )[0]
        for size in (1, 211 * 7, 211 * 1000)
    ]
    torch.testing.assert_close(gradients[0], gradients[2], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradients[1], gradients[2], rtol=1e-5, atol=1e-5)


def test_no_tokens_give_zero_loss_and_zero_gradients():
    hidden_TH, weight_VH, taken_T, _ = _inputs(torch.float32, tokens=0)
    output = token_op(hidden_TH, weight_VH, taken_T, loss_of=lambda logprobs, entropy, at: logprobs)
    output.loss_sum.backward()
    assert output.loss_sum == 0
    assert hidden_TH.grad.shape == (0, 24)
    assert (weight_VH.grad == 0).all()


def test_a_certain_token_has_no_entropy_and_no_infinities():
    hidden_TH = torch.tensor([[1.0]], requires_grad=True)
    weight_VH = torch.tensor([[500.0], [-500.0], [0.0]], requires_grad=True)
    output = token_op(
        hidden_TH, weight_VH, torch.tensor([1]), loss_of=lambda logprobs, entropy, at: 1e-3 * logprobs + entropy
    )
    output.loss_sum.backward()
    assert output.logprobs_T.item() == -1000.0
    assert output.entropy_T.item() == 0.0
    assert torch.isfinite(weight_VH.grad).all()


def test_under_autocast_values_stay_near_those_in_float32_and_come_back_in_float32():
    hidden_TH, weight_VH, taken_T, _ = _inputs(torch.float32)
    loss_of = _losses(len(taken_T), torch.float32)["both"]
    exact = token_op(hidden_TH, weight_VH, taken_T, loss_of=loss_of)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = token_op(hidden_TH, weight_VH, taken_T, loss_of=loss_of)
    (gradient,) = torch.autograd.grad(rough.loss_sum, weight_VH)
    assert rough.logprobs_T.dtype == gradient.dtype == torch.float32
    torch.testing.assert_close(rough.logprobs_T, exact.logprobs_T, rtol=0.02, atol=0.1)
    assert torch.backends.mkldnn.matmul.fp32_precision != "bf16"


class _Watch(TorchDispatchMode):
    """Which operators make a new tensor of a shape, how many add a product in place, and which copy from the host."""

    def __init__(self, shape):
        super().__init__()
        self.shape, self.made, self.copied, self.added = shape, [], [], 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [argument for argument in (*args, *kwargs.values()) if isinstance(argument, torch.Tensor)]
        places = [tensor.untyped_storage() for tensor in tensors]
        if str(func) == "aten.addmm.dtype_out":
            self.added += 1
            return kwargs["out"]  # elsewhere than on a GPU, torch takes it apart into operators that make new tensors
        found = func(*args, **kwargs)
        if isinstance(found, torch.Tensor):
            if {tensor.device.type for tensor in (*tensors, found)} == {"cpu", "meta"}:
                self.copied.append(str(func))
            own = all(found.untyped_storage() is not place for place in places)
            if own and tuple(found.shape) in (self.shape, self.shape[::-1]):
                self.made.append(str(func))
        return found


@pytest.mark.parametrize("half", [False, True])
def test_the_weights_gradient_is_one_buffer_however_many_chunks_there_are(half):
    hidden_TH, weight_VH, taken_T, _ = _inputs(torch.float32)
    loss_of = _losses(len(taken_T), torch.float32)["both"]
    with torch.autocast("cpu", torch.bfloat16, enabled=half), _Watch(tuple(weight_VH.shape)) as watch:
        token_op(hidden_TH, weight_VH, taken_T, loss_of=loss_of, chunk_elements=3 * 211)
    assert watch.made == ["aten.zeros_like.default"]


def test_as_on_a_gpu_every_chunk_adds_to_one_buffer_and_copies_nothing_from_the_host(monkeypatch):
    """The device ``meta`` has shapes and no memory, and takes the same way through the token op as a GPU. Autocast does
    not know it."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    made = {"device": "meta", "dtype": torch.bfloat16, "requires_grad": True}
    hidden_TH, weight_VH = torch.empty(37, 24, **made), torch.empty(211, 24, **made)
    by_token_T, taken_T = torch.empty(37, device="meta"), torch.empty(37, device="meta", dtype=torch.int64)
    with _Watch((211, 24)) as watch:
        output = token_op(
            hidden_TH,
            weight_VH,
            taken_T,
            loss_of=lambda logprobs, entropy, at: by_token_T[at] * logprobs + entropy,
            chunk_elements=5 * 211,
        )
    assert output.logprobs_T.dtype == torch.float32
    assert watch.made == ["aten.zeros_like.default"]
    assert watch.added == 8
    assert watch.copied == []


def test_a_chunk_on_a_gpu_takes_its_share_of_the_memory_that_is_free(monkeypatch):
    found = {"mem_get_info": (50 << 30, 80 << 30), "memory_reserved": 12 << 30, "memory_allocated": 2 << 30}
    for name, value in found.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    gpu = torch.device("cuda")
    # 60 GiB are free. 5 % of them are 3 GiB, which hold 2,118 tokens of 152,064 logits at 10 bytes.
    assert chunk_elements_on(gpu, 152_064, 0.05) == 2048 * 152_064
    assert chunk_elements_on(gpu, 152_064, 1e-9) == 152_064, "one token at least"
    assert chunk_elements_on(torch.device("cpu"), 152_064, 0.05) == CHUNK_ELEMENTS


def test_bfloat16_inputs_give_float32_values_near_those_of_float32_inputs():
    exact_TH, exact_VH, taken_T, _ = _inputs(torch.float32)
    hidden_TH, weight_VH = (it.detach().bfloat16().requires_grad_() for it in (exact_TH, exact_VH))
    loss_of = _losses(len(taken_T), torch.float32)["both"]
    found = token_op(hidden_TH, weight_VH, taken_T, loss_of=loss_of)
    # The same inputs, of which a float32 product is exact in its factors too.
    same = token_op(hidden_TH.detach().float().requires_grad_(), weight_VH.detach().float(), taken_T, loss_of=loss_of)
    assert found.logprobs_T.dtype == found.entropy_T.dtype == found.loss_sum.dtype == torch.float32
    torch.testing.assert_close(found.logprobs_T, same.logprobs_T, rtol=1e-5, atol=1e-4)
    found.loss_sum.backward()
    assert hidden_TH.grad.dtype == weight_VH.grad.dtype == torch.bfloat16
