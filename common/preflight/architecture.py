"""Says what a kind of model can be used for, by its ``config.json`` and by its code in the installed transformers,
which is read as text and never imported.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

CHANGES_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling", "output_multiplier_scale")
"""Keys of models that change their logits after the head, which the learner's token op would miss."""
DIVIDES_LOGITS = {"granite": "logits_scaling"}
MULTIPLIES_LOGITS = {"cohere": "logit_scale", "cohere2": "logit_scale"}
"""Kinds whose logits are scaled by a number, with its key: the learner scales its temperature by it."""
DROPS_LAYOUT = frozenset(["nemotron"])
"""Kinds whose layers do not hand on to their attention where one packed response ends."""
ATTENTION_LAYERS = frozenset(["full_attention", "sliding_attention"])
"""Layers that see other tokens by attention alone. A recurrence or convolution runs on into the next response."""
LOST_BY_VLLM = {
    "deepseek_v2": "gave log-probabilities of another model once it had taken new weights",
    "deepseek_v3": "gave log-probabilities of another model once it had taken new weights",
    "gpt_neox": "gave log-probabilities of another model",
    "minimax_m2": "cannot take new weights",
    "phi": "loses the bias of its output projection when new weights come",
    "phimoe": "does not route to its experts as its code does",
}
"""Kinds that the vLLM release which Leeway takes (0.32) gets wrong, and how."""
TRIED = frozenset([
    "apertus", "arcee", "cohere", "cohere2", "deepseek_v2", "deepseek_v3", "ernie4_5", "exaone4", "gemma",
    "gemma3_text", "glm", "glm4", "glm4_moe", "gpt2", "gpt_neox", "granite", "hunyuan_v1_dense", "llama",
    "minimax_m2", "ministral", "ministral3", "mistral", "mixtral", "olmo2", "olmo3", "olmoe", "phi", "phi3",
    "phimoe", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "seed_oss", "smollm3", "starcoder2",
])  # fmt: skip
"""Kinds that ``make models`` trained and sampled (docs/reference/models.md). The learner itself checks others."""
_HEADS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
_DTYPES = ("auto", "bfloat16", "float16", "float32", "float64")
_WRAPPED = ("vision_config", "audio_config", "speech_config")
_ELSEWHERE = "leeway sample and leeway eval may use it, with --engine vllm"
_FLAG = re.compile(r"^    _(supports_attention_backend|supports_sdpa|is_stateful) = True\b", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Code:
    """What the code of a model type in transformers says."""

    attention_backend: bool
    """Whether attention goes through transformers' interface, where the learner puts its own."""
    sdpa: bool
    stateful: bool
    """Whether the model has a recurrent state beside keys and values."""
    sinks: bool
    """Whether the model has attention sinks: logits that belong to no token."""


@cache
def code_of(model_type: str) -> Code | None:
    """What the code of ``model_type`` says; None if transformers is not installed or has no such code."""
    spec = find_spec("transformers")
    if spec is None or not spec.submodule_search_locations:
        return None
    name = model_type.replace("-", "_")
    folder = Path(spec.submodule_search_locations[0], "models")
    names = [name, *([name[: -len("_text")]] if name.endswith("_text") else [])]
    path = next((each for name in names if (each := folder / name / f"modeling_{name}.py").is_file()), None)
    if path is None:
        return None
    text = path.read_text(encoding="utf-8")
    said = {match[1] for match in _FLAG.finditer(text)}
    return Code(
        attention_backend="supports_attention_backend" in said,
        sdpa="supports_sdpa" in said,
        stateful="is_stateful" in said,
        sinks="s_aux" in text,
    )


def why_no_language_model(keys: Mapping[str, Any]) -> str | None:
    """Why a folder's model is not a causal language model that Leeway can use; None if it is one."""
    kind = keys.get("model_type")
    if not isinstance(kind, str):
        return (
            "its config.json has no model_type: it is no transformers model (of a LoRA adapter, give the merged model)"
        )
    if keys.get("is_encoder_decoder"):
        return f"{kind} is an encoder with a decoder: expected a decoder alone, a causal language model"
    if code_of(kind) is None and "auto_map" in keys and find_spec("transformers") is not None:
        return (
            f"{kind} brings its own code (auto_map in config.json: trust_remote_code), which is never run, and the "
            "installed transformers has none for it"
        )
    heads = [str(each) for each in keys.get("architectures") or ()]
    if heads and not any(each.endswith(_HEADS) for each in heads):
        return f"its architectures ({', '.join(heads)}) hold no causal language model"
    return _why_not_read(text_keys(keys))


def _why_not_read(keys: Mapping[str, Any]) -> str | None:
    """Why transformers would fail at the keys themselves, or load a model that gives no numbers; None if neither."""
    for name in ("dtype", "torch_dtype"):
        if (dtype := keys.get(name)) is not None and dtype not in _DTYPES:
            return f"{name} in its config.json is {dtype!r}: expected one of {', '.join(_DTYPES)}"
    theta = keys.get("rope_theta")
    if theta is not None and not (isinstance(theta, (int, float)) and 0 < theta < math.inf):
        return f"rope_theta in its config.json is {theta!r}: expected a number above 0"
    return None


def why_not_trained(keys: Mapping[str, Any]) -> str | None:
    """Why the learner cannot train the model; None if it can, as far as its keys and code tell."""
    kind, code = str(keys.get("model_type")), code_of(str(keys.get("model_type")))
    what = None
    if wrapper := _wrapped(keys):
        what = f"wraps a language model for images or sound ({wrapper}); that language model alone, in a folder, can be"
    elif code is not None and code.sinks:
        what = "needs attention sinks"
    elif others := sorted(set(keys.get("layer_types") or ()) - ATTENTION_LAYERS):
        what = f"has layers that would mix packed responses ({', '.join(others)})"
    elif code is not None and code.stateful:
        what = "has layers that would mix packed responses"
    elif kind in DROPS_LAYOUT or (code is not None and not code.attention_backend):
        what = "has an attention that would mix packed responses"
    elif keys.get("attn_logit_softcapping"):
        what = "needs softcap in its attention (attn_logit_softcapping)"
    elif changed := [key for key in CHANGES_LOGITS if keys.get(key) not in (None, 1.0) and key != scaled_by(kind)]:
        what = f"changes its logits by {changed[0]}"
    return f"{kind} cannot be trained here: it {what}. {_ELSEWHERE}" if what else None


def scaled_by(kind: str) -> str | None:
    """The key of the number by which a kind of model scales its logits, if the learner knows of it."""
    return DIVIDES_LOGITS.get(kind) or MULTIPLIES_LOGITS.get(kind)


def logits_divisor(keys: Mapping[str, Any]) -> float:
    """By what a model divides its logits after the head; 1 for nearly all."""
    kind = str(keys.get("model_type"))
    if kind in MULTIPLIES_LOGITS:
        return 1 / float(keys[MULTIPLIES_LOGITS[kind]])
    return float(keys[DIVIDES_LOGITS[kind]]) if kind in DIVIDES_LOGITS else 1.0


def why_not_sampled_by_torch(keys: Mapping[str, Any]) -> str | None:
    """Why the torch engine cannot sample from the model; None if it can."""
    kind, code = str(keys.get("model_type")), code_of(str(keys.get("model_type")))
    what = None
    if wrapper := _wrapped(keys):
        what = f"wraps a language model for images or sound ({wrapper})"
    elif code is not None and (code.sinks or not code.sdpa):
        what = "needs attention sinks" if code.sinks else "has an attention of its own"
    elif code is not None and code.stateful:
        what = "has a recurrent state"
    return f"{kind} {what}, which the torch engine does not have; rollout.engine = 'vllm' may" if what else None


def why_not_sampled_by_vllm(keys: Mapping[str, Any], longest: int) -> str | None:
    """Why vLLM cannot sample from the model as Leeway uses it; None if it can, as far as is known. ``longest``: most
    tokens of a prompt and its response."""
    kind, window = str(keys.get("model_type")), keys.get("sliding_window")
    lost = LOST_BY_VLLM.get(kind)
    if kind == "cohere2" and isinstance(window, int) and longest > window:
        lost = f"sees a token more than transformers past the sliding window of {window}, and there may be {longest}"
    return f"vLLM 0.32 {lost} ({kind}); rollout.engine = 'torch' is right" if lost else None


def _wrapped(keys: Mapping[str, Any]) -> str | None:
    """The key that says that the model wraps a language model; None if it does not."""
    return next((key for key in _WRAPPED if keys.get(key) is not None), None)


def text_keys(keys: Mapping[str, Any]) -> Mapping[str, Any]:
    """The language model's own keys. In a wrapper they lie in ``text_config``."""
    inner = keys.get("text_config")
    return {**keys, **inner} if isinstance(inner, Mapping) else keys
