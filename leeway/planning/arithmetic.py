"""What a configuration means in tokens, memory and processes: ``leeway up --dry-run``. Pure; nothing is loaded.

Memory is computed. Weights, gradients and optimizer follow from DeepSpeed's ZeRO over float32 weights, of which it
keeps a copy of its own at ZeRO stages 1 to 3. Activations follow from what the layers of a Llama-shaped model (Qwen2,
Qwen3, Llama, Mistral) keep for the backward pass. 1 GB is 1e9 bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from ...common.config import Config, expand
from ...common.preflight.folder import read_header, read_object
from ...common.rope import Context, context_of
from ...common.tables import as_text, table
from ...common.wording import byte_size

GPU_BYTES = 80e9
"""Memory of the GPU for which the room of a rollout worker is stated."""
LOGITS_CHUNK = 1 << 25
"""Logits in one chunk of the token op, which holds two chunks at a time (learner/objective/token_op.py)."""
REDUCE_BUCKET, LIVE_PARAMETERS = 5e8, 1e9
"""DeepSpeed's defaults, in elements: gradients reduced at a time; at ZeRO stage 3, parameters gathered at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A model's sizes, by the names of its config.json."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    parameters: int
    """Number of parameters; tied ones count once."""
    context: Context


_QWEN_25 = {"head_dim": 128, "vocabulary": 152_064}
_QWEN_25_CONTEXT = Context(131_072, "max_position_embeddings = 131072")
BASES = {
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": Shape(
        layers=28,
        hidden=1536,
        intermediate=8960,
        heads=12,
        kv_heads=2,
        head_dim=128,
        vocabulary=151_936,
        parameters=1_777_088_000,
        context=_QWEN_25_CONTEXT,
    ),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": Shape(
        layers=28,
        hidden=3584,
        intermediate=18_944,
        heads=28,
        kv_heads=4,
        parameters=7_615_616_512,
        context=_QWEN_25_CONTEXT,
        **_QWEN_25,
    ),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B": Shape(
        layers=64,
        hidden=5120,
        intermediate=27_648,
        heads=40,
        kv_heads=8,
        parameters=32_763_876_352,
        context=_QWEN_25_CONTEXT,
        **_QWEN_25,
    ),
}
"""The base models of the shipped presets, from their config.json, for where no hub is at hand."""


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that takes memory."""

    name: str
    device: float
    """Bytes on the GPU (or, without one, in memory)."""
    host: float
    """Bytes in the host's memory."""
    how: str
    """The arithmetic."""


def shape_of(model_path: str) -> Shape | None:
    """The sizes of a local model folder, or of a base model in ``BASES``; ``None`` where neither knows."""
    folder = Path(expand(model_path))
    if not (folder / "config.json").is_file():
        return BASES.get(model_path)
    keys = read_object(folder / "config.json")
    context = context_of(keys)
    if context is None:
        return None
    try:
        heads = keys["num_attention_heads"]
        return Shape(
            layers=keys["num_hidden_layers"],
            hidden=keys["hidden_size"],
            intermediate=keys["intermediate_size"],
            heads=heads,
            kv_heads=keys["num_key_value_heads"],
            head_dim=keys["head_dim"] if keys.get("head_dim") else keys["hidden_size"] // heads,
            vocabulary=keys["vocab_size"],
            parameters=_parameters_in(folder),
            context=context,
        )
    except KeyError:
        return None  # a model of another shape


def _parameters_in(folder: Path) -> int:
    """The number of parameters, from the headers of the safetensors files."""
    return sum(prod(each.shape) for path in folder.glob("*.safetensors") for each in read_header(path).values())


# --- memory ----------------------------------------------------------------------------------------------------------


def learner_memory(config: Config, shape: Shape) -> list[Part]:
    """What one learner rank holds at its peak, as far as this can be known beforehand."""
    return [*_states(config, shape), *_buffers(config, shape), *_activations(config, shape)]


def _states(config: Config, shape: Shape) -> list[Part]:
    train, count = config.train, float(shape.parameters)
    ranks = train.ranks if train.zero_stage else 1
    spread = f"/ {ranks} ranks" if ranks > 1 else ""
    optimizer_on_host = train.offload != "none"
    weights_on_host = train.offload == "optimizer+parameters"

    def part(name: str, bytes_each: int, *, shared: bool, on_host: bool) -> Part:
        size = bytes_each * count / (ranks if shared else 1)
        how = f"{bytes_each} bytes a parameter {spread if shared else ''}".strip()
        return Part(name, 0.0 if on_host else size, size if on_host else 0.0, how)

    stage = train.zero_stage
    parts = [part("weights, float32", 4, shared=stage == 3, on_host=weights_on_host)]
    gradients_shared = stage >= 2 or (optimizer_on_host and stage == 1)
    parts.append(part("gradients", 4, shared=gradients_shared, on_host=optimizer_on_host))
    if stage > 0:
        parts.append(part("master copy of the weights", 4, shared=True, on_host=optimizer_on_host))
    parts.append(part("AdamW's two moments", 8, shared=stage > 0, on_host=optimizer_on_host))
    if optimizer_on_host and stage == 3:
        parts.append(part("gradients, for the update", 4, shared=True, on_host=True))
    elif optimizer_on_host:
        parts.append(part("gradients over micro-batches", 4, shared=False, on_host=True))
    if config.objective.kl_beta > 0 and config.placement.reference == "learner":
        parts.append(part("reference model", 4, shared=False, on_host=False))
    return parts


def _buffers(config: Config, shape: Shape) -> list[Part]:
    stage, parts = config.train.zero_stage, []
    if stage > 0:
        size = 4 * min(REDUCE_BUCKET, shape.parameters)
        parts.append(Part("gradients being reduced", size, 0.0, "DeepSpeed's bucket"))
    if stage == 3:
        size = 4 * min(LIVE_PARAMETERS, shape.parameters)
        parts.append(Part("parameters gathered", size, 0.0, "DeepSpeed's limit"))
    return parts


def _activations(config: Config, shape: Shape) -> list[Part]:
    tokens, half = config.train.micro_batch_tokens, config.model.dtype == "bfloat16"
    layer = layer_bytes(shape, half=half) * tokens
    casts = 2.0 * shape.parameters if half else 0.0
    if config.train.gradient_checkpointing:
        inputs = 4.0 * shape.hidden * tokens * shape.layers
        parts = [
            Part("activations kept", inputs, 0.0, f"the inputs of {shape.layers} layers, float32"),
            Part("one layer, recomputed", layer + casts / shape.layers, 0.0, "what it keeps for its backward pass"),
        ]
    else:
        parts = [Part("activations kept", shape.layers * layer, 0.0, f"of {shape.layers} layers")]
        if half:
            parts.append(Part("bfloat16 casts of the weights", casts, 0.0, "2 bytes a parameter, until the backward"))
    head = float(shape.vocabulary * shape.hidden)
    token_op = (6 if half else 4) * head + 2 * 4.0 * LOGITS_CHUNK + 8.0 * shape.hidden * tokens
    return [*parts, Part("token op", token_op, 0.0, "the head's gradient, two chunks of logits, hidden states")]


def layer_bytes(shape: Shape, *, half: bool) -> int:
    """Bytes that one layer keeps of a token for its backward pass. Norms are in float32; with ``half``, products are in
    bfloat16.

    A prompt's tokens count once: what further responses of its group in a micro-batch keep of them again is left out.
    """
    wide, narrow = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    sums = 4 * shape.heads + 8  # of the softmax and of two norms
    if half:
        return 26 * shape.hidden + 6 * wide + 4 * narrow + 8 * shape.intermediate + sums
    return 24 * shape.hidden + 12 * wide + 8 * narrow + 16 * shape.intermediate + sums


def kv_bytes_a_token(config: Config, shape: Shape) -> int:
    """Bytes of the keys and values of one token, over all GPUs of a rollout worker."""
    each = 2 if config.rollout.dtype == "bfloat16" else 4
    return 2 * shape.layers * shape.kv_heads * shape.head_dim * each


# --- the page --------------------------------------------------------------------------------------------------------


def describe(config: Config, shape: Shape | None) -> str:
    """The whole page, every line a TOML comment, so that it may stand under the configuration."""
    parts = [_table(_stage_rows(config, shape), len(config.stage_starts)), ""]
    if shape is None:
        parts.append(
            f"memory: unknown. {config.model.path} is no local folder with a config.json of a Llama-shaped model, and "
            f"none of {', '.join(BASES)}"
        )
    else:
        parts += [_learner_page(config, shape), "", _rollout_page(config, shape)]
    return "\n".join(f"# {line}".rstrip() for line in "\n".join(parts).splitlines())


def _stage_rows(config: Config, shape: Shape | None) -> list[list[str]]:
    """The table of tokens and groups, one column a stage."""
    token_bytes = 8 if shape is None or shape.vocabulary > 1 << 16 else 6  # a token's id, and its log-probability
    starts = config.stage_starts
    columns = []
    for number, (view, start, end) in enumerate(zip(config.views(), starts, [*starts[1:], None], strict=True), start=1):
        last = config.train.steps if end is None else min(end, config.train.steps)
        columns.append({"stage": str(number), **_stage_column(view, start, max(start, last), token_bytes)})
    return [[name, *(column[name] for column in columns)] for name in columns[0]]


def _stage_column(view: Config, start: int, end: int, token_bytes: int) -> dict[str, str]:
    """One column of the table; ``view`` is the configuration as it is in the stage."""
    train, bound, steps = view.train, view.flow.max_staleness, end - start
    responses = train.groups_per_step * train.group_size
    tokens = responses * train.max_response_tokens
    live = (bound + 1) * train.groups_per_step
    payload = train.group_size * train.max_response_tokens * token_bytes + 4 * view.data.max_prompt_tokens
    return {
        "training steps": f"{start:,} to {end:,}",
        "responses a step": f"{train.groups_per_step} x {train.group_size} = {responses:,}",
        "longest response, tokens": f"{train.max_response_tokens:,}",
        "tokens a step, at most": _count(tokens),
        "SGD updates a step": str(train.updates_per_step),
        "temperature": str(view.flow.temperature),
        "groups live, at most": f"({bound} + 1) x {train.groups_per_step} = {live}",
        "their payload in Redis, at most": byte_size(live * payload),
        "pipeline depth, groups": str(view.flow.pipeline_depth),
        "responses trained": _count(responses * steps),
        "tokens trained, at most": _count(tokens * steps),
        "SGD updates": f"{train.updates_per_step * steps:,}",
    }


def _learner_page(config: Config, shape: Shape) -> str:
    train = config.train
    parts = learner_memory(config, shape)
    device, host = sum(part.device for part in parts), sum(part.host for part in parts)
    checkpointing = "with" if train.gradient_checkpointing else "without"
    rows = [["", "device", "host", ""]]
    rows += [[part.name, byte_size(part.device), byte_size(part.host), part.how] for part in parts]
    verdict = "an estimate: leave a tenth free" if device <= GPU_BYTES else "more than a GPU of 80 GB has"
    rows.append(["one rank", byte_size(device), byte_size(host), verdict])
    loading = min(train.ranks, 8) * 4.0 * shape.parameters
    rows.append(
        ["to start, a node", "", byte_size(loading), f"each of its {min(train.ranks, 8)} ranks reads the model"]
    )
    ranks = "1 rank" if train.ranks == 1 else f"{train.ranks} ranks"
    return (
        f"memory of a learner rank: {_count(shape.parameters)} parameters, ZeRO {train.zero_stage} on {ranks}, "
        f"offload {train.offload},\n{config.model.dtype}, {checkpointing} gradient checkpointing, "
        f"{train.micro_batch_tokens:,} tokens at a time\n" + _table(rows, 2)
    )


def _rollout_page(config: Config, shape: Shape) -> str:
    rollout, each = config.rollout, 2 if config.rollout.dtype == "bfloat16" else 4
    weights, longest = each * float(shape.parameters), config.data.max_prompt_tokens + config.longest_response
    sequence = float(kv_bytes_a_token(config, shape)) * longest
    room = GPU_BYTES * rollout.gpu_memory_utilization * rollout.tensor_parallel - weights
    fit = max(0, int(room // sequence))
    split = f" / {rollout.tensor_parallel} GPUs" if rollout.tensor_parallel > 1 else ""
    published = (2 if config.weights.dtype == "bfloat16" else 4) * float(shape.parameters)
    rows = [
        ["weights, a GPU", byte_size(weights / rollout.tensor_parallel), f"{each} bytes a parameter{split}"],
        ["KV cache, a token", byte_size(kv_bytes_a_token(config, shape)), "keys and values of every layer"],
        ["KV cache, a longest sequence", byte_size(sequence), f"{longest:,} tokens"],
    ]
    if rollout.engine == "vllm":
        at_once = config.most_responses_at_once
        gpus = f"{rollout.tensor_parallel} x 80 GB x {rollout.gpu_memory_utilization}"
        fits = f"{gpus}; the worker asks for up to {at_once}, and what does not fit waits"
        rows.append(["longest sequences that fit", str(fit), fits])
    rows.append(
        [
            "a published version, whole",
            byte_size(published),
            f"every {config.weights.keyframe_every} versions; deltas in between",
        ]
    )
    return "memory of a rollout worker\n" + _table(rows, 1)


def _table(rows: Sequence[Sequence[str]], numbers: int) -> str:
    """A table of names, ``numbers`` right-aligned columns, and words. Heads, if any, are the first row."""
    return as_text(table([""] * len(rows[0]), rows, right=range(1, numbers + 1)))


def _count(number: float) -> str:
    """A number for people, with all its digits where it is below a million."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{int(number):,}"
