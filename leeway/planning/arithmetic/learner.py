"""What one rank of the learner holds: states, and at each of the moments of a training step that take much, the rest.

States follow from DeepSpeed's ZeRO over float32 weights, of which it keeps a copy of its own at ZeRO stages 1 to 3.
Activations follow from what the layers of a Llama-shaped model (Qwen2, Qwen3, Llama, Mistral) keep for the backward
pass. ``tests/proofs/dry_run_memory.py`` compares each figure with what DeepSpeed and torch hold.
"""

from dataclasses import dataclass
from typing import Literal

from .shapes import Shape

Precision = Literal["float32", "autocast", "bfloat16"]
"""``autocast``: bfloat16 arithmetic over float32 weights. ``bfloat16``: DeepSpeed's mode, bfloat16 weights over float32
masters, with gradients added up in float32."""

LOGITS_CHUNK, LOGIT_BYTES, SUMMED_ROWS = 1 << 25, 10, 16
"""Logits in one chunk of the token op on a CPU, bytes that a logit takes on a GPU, and rows that are summed at a time
(learner/objective/token_op.py)."""
REDUCE_BUCKET, LIVE_PARAMETERS, SUB_GROUP = 5e8, 1e9, 1e9
"""DeepSpeed's defaults, in elements: gradients reduced at a time; at ZeRO stage 3, parameters gathered at a time, and
parameters updated at a time."""
AFTER = "after the last layer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Learner:
    """How a learner is laid out."""

    ranks: int = 1
    zero_stage: int = 0
    offload: Literal["none", "optimizer", "optimizer+parameters"] = "none"
    precision: Precision = "autocast"
    checkpointing: bool = False
    tokens: int
    """Tokens of the largest micro-batch."""
    references: tuple[int | None, ...] = ()
    """The parameters of each model of the KL terms; None: as many as the policy has."""
    references_apart: bool = False
    """Whether they have GPUs of their own. Otherwise each rank has its part of them on its GPU."""
    gradient_cosine: bool = False
    """Whether a copy of the last update's gradients is kept (``metrics.gradient_cosine``)."""
    inputs_on_host: bool = False
    """Whether the inputs of checkpointed layers wait in the host's memory."""
    logits_bytes: float | None = 4e9
    """Bytes that the token op's logits may take on a GPU, at most. None on a CPU: there the chunk is fixed, the token
    op casts to float32, and torch's AdamW goes from tensor to tensor."""

    @property
    def on_gpu(self) -> bool:
        """Whether it computes on a GPU."""
        return self.logits_bytes is not None

    @property
    def width(self) -> int:
        """Bytes of a weight, and of a number of the hidden states between two layers."""
        return 2 if self.precision == "bfloat16" else 4

    def rows(self, vocabulary: int) -> int:
        """Tokens in a chunk of the token op."""
        if self.logits_bytes is None:
            most = LOGITS_CHUNK // vocabulary
        else:
            fit = max(1, int(self.logits_bytes) // (LOGIT_BYTES * vocabulary))
            most = 1 << (fit.bit_length() - 1)
        return max(1, min(self.tokens, most))

    @property
    def half(self) -> bool:
        """Whether products are in bfloat16."""
        return self.precision != "float32"


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


def total(parts: list[Part]) -> float:
    """Bytes of ``parts`` on the device."""
    return sum(part.device for part in parts)


# --- states ----------------------------------------------------------------------------------------------------------


def states(learner: Learner, shape: Shape) -> list[Part]:
    """What lives through the whole step: weights, gradients, optimizer, and DeepSpeed's own copies of them."""
    stage, count = learner.zero_stage, float(shape.parameters)
    ranks = learner.ranks if stage else 1
    own = learner.offload != "none"

    def part(name: str, bytes_each: int, *, shared: bool, on_host: bool = False) -> Part:
        size = bytes_each * count / (ranks if shared else 1)
        spread = f" / {ranks} ranks" if shared and ranks > 1 else ""
        how = f"{bytes_each} bytes a parameter{spread}"
        return Part(name, 0.0 if on_host else size, size if on_host else 0.0, how)

    width, kind = learner.width, "bfloat16" if learner.precision == "bfloat16" else "float32"
    weights = part(f"weights, {kind}", width, shared=stage == 3, on_host=learner.offload == "optimizer+parameters")
    # Stage 1 adds gradients up beside those of the micro-batch, where these are narrower.
    each = 6 if stage == 1 and width == 2 and not own else 4
    parts = [weights, part("gradients", each, shared=stage >= 2 or (own and stage == 1), on_host=own)]
    if stage > 0:
        parts.append(part("master copy of the weights", 4, shared=True, on_host=own))
    parts.append(part("AdamW's two moments", 8, shared=stage > 0, on_host=own))
    if learner.gradient_cosine:
        parts.append(part("gradients of the update before", 4, shared=stage > 0, on_host=own))
    if own and stage == 3:
        parts.append(part("gradients, for the update", 4, shared=True, on_host=True))
    elif own:
        parts.append(part("gradients over micro-batches", 4, shared=False, on_host=True))
        parts.append(part("updated weights, on their way", width, shared=True, on_host=True))
    if learner.references and not learner.references_apart:
        size = whole_references(learner, shape) / learner.ranks
        spread = f" / {learner.ranks} ranks" if learner.ranks > 1 else ""
        number = len(learner.references)
        name = "reference model" if number == 1 else f"{number} reference models"
        parts.append(Part(name, size, 0.0, f"{width} bytes a parameter{spread}"))
    if stage == 3:
        parts.append(_bucket(learner))
    return parts


def whole_references(learner: Learner, shape: Shape) -> float:
    """Bytes of the models of the KL terms, which are held as the weights of the policy are."""
    return float(learner.width * sum(count or shape.parameters for count in learner.references))


def _bucket(learner: Learner) -> Part:
    kind = "bfloat16" if learner.width == 2 else "float32"
    return Part("bucket of gradients", learner.width * REDUCE_BUCKET, 0.0, f"DeepSpeed's reduce_bucket_size, {kind}")


# --- the moments of a step --------------------------------------------------------------------------------------------


def kept(learner: Learner, shape: Shape) -> list[Part]:
    """What the forward pass leaves for the backward pass, up to the token op."""
    tokens, row = learner.tokens, float(learner.width * shape.hidden * learner.tokens)
    if learner.checkpointing:
        size, kind = shape.layers * row, "bfloat16" if learner.width == 2 else "float32"
        on_device, on_host = (0.0, size) if learner.inputs_on_host else (size, 0.0)
        parts = [Part("inputs of the layers", on_device, on_host, f"{shape.layers} layers, {kind}")]
    else:
        each = layer_bytes(shape, learner.precision)
        parts = [
            Part("kept by the layers", float(shape.layers) * each * tokens, 0.0, f"{each:,} bytes a token and layer")
        ]
        if learner.precision == "autocast":
            casts = 2.0 * shape.in_layers
            parts.append(Part("casts of the layers' weights", casts, 0.0, "bfloat16, until the backward pass"))
    # The last norm's input is in float32; then its factor, its result, and the targets' part of it.
    outside = 4.0 * shape.hidden * tokens + 3 * row + 2.0 * learner.width * shape.head_dim * tokens
    parts.append(Part(AFTER, outside, 0.0, "its norm, and the hidden states of the targets"))
    return parts


def layer_bytes(shape: Shape, precision: Precision) -> int:
    """Bytes that one layer keeps of a token for its backward pass. Norms are in float32; products are in bfloat16 but
    for ``float32``. Under ``autocast`` each product has a cast of its own of what it takes.

    A prompt's tokens count once: what further responses of its group in a micro-batch keep of them again is left out.
    """
    wide, narrow = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    sums = 4 * shape.heads + 8  # of the softmax and of two norms
    if precision == "float32":
        return 24 * shape.hidden + 12 * wide + 8 * narrow + 16 * shape.intermediate + sums
    norms = 26 if precision == "autocast" else 16
    return norms * shape.hidden + 6 * wide + 4 * narrow + 8 * shape.intermediate + sums


def token_op(learner: Learner, shape: Shape) -> list[Part]:
    """The token op at its peak, when everything is kept."""
    rows = learner.rows(shape.vocabulary)
    logits = 4.0 * shape.vocabulary * rows
    summed = 2 * 4.0 * shape.vocabulary * min(SUMMED_ROWS, rows)
    hidden, kind = float(learner.width * shape.hidden * learner.tokens), {2: "bfloat16", 4: "float32"}[learner.width]
    parts = [
        Part("logits and exponentials", 2 * logits + summed, 0.0, f"{rows:,} tokens at a time, float32"),
        Part("gradient of the head", 4.0 * shape.head, 0.0, "float32"),
        Part("gradient of the hidden states", hidden, 0.0, kind),
    ]
    if learner.on_gpu and learner.half:
        cast = (0.0 if learner.width == 2 else 2.0 * shape.head) + logits / 2
        parts.append(Part("bfloat16 factors", cast, 0.0, "a chunk" if learner.width == 2 else "the head and a chunk"))
    elif learner.width == 2:
        parts.append(Part("float32 factors", 4.0 * shape.head, 0.0, "the head"))
    return parts


def backward(learner: Learner, shape: Shape, held: list[Part], reduced: list[Part]) -> list[Part]:
    """The backward pass at its peak: at its start, or in the last layer, which comes first and finds everything but the
    last norm still kept. ``held``: what is kept. ``reduced``: what DeepSpeed copies meanwhile."""
    row = 4.0 * shape.hidden * learner.tokens
    cast = learner.width == 2  # the head's gradient leaves the token op as its weight is
    head = Part("gradient of the head", float(learner.width * shape.head), 0.0, "bfloat16" if cast else "float32")
    sums = [Part("… in float32", 4.0 * shape.head, 0.0, "until it is cast")] if cast else []
    start = [*held, head, *sums, Part("gradients of the last norm", 4 * row, 0.0, "float32")]
    inside = [part for part in held if part.name != AFTER] + _one_layer(learner, shape) + reduced
    if shape.tied:
        inside.append(head)  # it waits until the embedding's gradient comes, which is the last
    return max(start, inside, key=total)


def _one_layer(learner: Learner, shape: Shape) -> list[Part]:
    width, tokens = (2.0 if learner.half else 4.0), learner.tokens
    parts = []
    if learner.checkpointing:
        each = layer_bytes(shape, learner.precision)
        parts.append(Part("what one layer keeps, recomputed", float(each) * tokens, 0.0, f"{each:,} bytes a token"))
        if learner.precision == "autocast":
            parts.append(Part("casts of its weights", 2.0 * shape.in_layers / shape.layers, 0.0, "bfloat16"))
    else:
        parts.append(Part("gradient of its output", 4.0 * shape.hidden * tokens, 0.0, "float32"))
    # Gradients of the MLP's three wide tensors live side by side, when one of the tensors is already gone; or that of
    # the first, and of a weight.
    wide = 2 * width * shape.intermediate * tokens
    weight = (width + (4.0 if learner.precision == "autocast" else 0.0)) * shape.hidden * shape.intermediate
    parts.append(Part("gradients of its MLP", max(wide, wide / 2 + weight), 0.0, f"{2 * width:.0f} bytes a wide value"))
    return parts


def reducing(learner: Learner, shape: Shape) -> list[Part]:
    """What DeepSpeed copies of the gradients that it reduces at a time."""
    # gloo's reduce-scatter works on a copy of its own.
    each = learner.width * {0: 1.0, 1: 0.0, 2: 1.0, 3: 1.0 if learner.on_gpu else 2.0}[learner.zero_stage]
    size = each * min(REDUCE_BUCKET, shape.parameters)
    return [Part("gradients being reduced", size, 0.0, f"{each:.0f} bytes of each in a bucket")] if size else []


def update(learner: Learner, shape: Shape) -> list[Part]:
    """What the optimizer step takes over the states, when nothing is kept any more."""
    count, stage, ranks = float(shape.parameters), learner.zero_stage, learner.ranks
    if learner.offload != "none":
        return []
    temporary = 4.0 if learner.on_gpu else 8.0
    if stage == 0:
        # torch's AdamW goes over all tensors at once on a GPU, and over one after the other on the CPU.
        size = temporary * (count if learner.on_gpu else shape.largest_tensor)
        return [Part("AdamW's temporaries", size, 0.0, f"{temporary:.0f} bytes a parameter at a time")]
    own = min(SUB_GROUP, count / ranks) if stage == 3 else count / ranks
    # Up to stage 2 the gradients have left the states when AdamW runs over their flat copy: at stage 1 all of them, but
    # of the float32 sums over bfloat16 weights this rank's alone.
    gone = {1: 4.0 * (own if learner.width == 2 else count), 2: 4.0 * own, 3: 0.0}[stage]
    size = max(4.0 * own, (4.0 + temporary) * own - gone)
    return [Part("flat gradients and AdamW", size, 0.0, f"{4 + temporary:.0f} bytes a parameter at a time")]


@dataclass(frozen=True, slots=True)
class Peak:
    """The states, and the moment of a training step that takes the most beside them."""

    states: list[Part]
    name: str
    parts: list[Part]
    others: dict[str, float]
    """Bytes of the other moments, states included."""

    @property
    def device(self) -> float:
        """Bytes on the device at the peak."""
        return total(self.states) + total(self.parts)

    @property
    def host(self) -> float:
        """Bytes in the host's memory."""
        return sum(part.host for part in [*self.states, *self.parts])


def moments(learner: Learner, shape: Shape) -> dict[str, list[Part]]:
    """What each of a step's moments takes over the states."""
    stage, during = learner.zero_stage, list[Part]()
    if stage == 3 and (learner.ranks > 1 or learner.offload == "optimizer+parameters"):
        gathered = learner.width * min(LIVE_PARAMETERS, shape.parameters)
        during.append(Part("parameters gathered", gathered, 0.0, "at most DeepSpeed's stage3_max_live_parameters"))
    held, reduced = kept(learner, shape), reducing(learner, shape)
    # Stage 1 keeps the bucket from its first micro-batch to its last, and has none over bfloat16 weights; stage 2 has
    # one for the time of a backward pass.
    bucket = [_bucket(learner)] if stage == 2 or (stage == 1 and learner.width == 4) else []
    forward = [*during, *(bucket if stage == 1 else []), *held]
    # A model of more parameters than a bucket has fills one while activations are still kept.
    early = stage >= 2 and shape.parameters > REDUCE_BUCKET
    return {
        "token op": forward + token_op(learner, shape),
        "backward": [*during, *bucket, *backward(learner, shape, held, reduced if early else [])],
        "reduction": bucket + reduced,
        "update": update(learner, shape),
    }


def peak(learner: Learner, shape: Shape) -> Peak:
    """What one rank holds at its peak, as far as this can be known beforehand."""
    always, found = states(learner, shape), moments(learner, shape)
    largest = max(found, key=lambda name: total(found[name]))
    others = {name: total(always) + total(parts) for name, parts in found.items() if name != largest}
    return Peak(always, largest, found[largest], others)
