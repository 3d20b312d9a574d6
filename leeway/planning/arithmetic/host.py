"""Memory of the nodes' hosts, and shared memory: to start, to publish, to write a checkpoint, to take a version in."""

from .learner import Learner, Part, kept, states
from .shapes import Shape
from .storage import checkpoint_widths

PUBLISHING = 4.5
"""Bytes a parameter that rank 0 takes beside the model to publish a version, at most."""
TAKING_IN = 0.5
"""Bytes a parameter of a rollout node beside its two versions, at most: what it has fetched and not yet decoded."""


def learner_host(learner: Learner, shape: Shape, *, ranks_a_node: int, snapshot: bool) -> list[Part]:
    """What the node of rank 0 holds in its host's memory once training is under way. ``snapshot``: whether checkpoints
    are written beside the next step."""
    count, here = float(shape.parameters), min(ranks_a_node, learner.ranks)
    parts = []
    if (own := sum(part.host for part in [*states(learner, shape), *kept(learner, shape)])) > 0:
        parts.append(Part("what is offloaded", 0.0, here * own, f"{here} x a rank's"))
    parts.append(
        Part("a version to publish", 0.0, PUBLISHING * count, f"rank 0, at most {PUBLISHING} bytes a parameter")
    )
    if snapshot:
        first, shared = checkpoint_widths(zero_stage=learner.zero_stage, width=learner.width)
        copied = (first + shared * here / learner.ranks) * count
        spread = f"{shared} bytes a parameter / {learner.ranks} ranks x {here}"
        how = " + ".join(([f"{first} bytes a parameter"] if first else []) + ([spread] if shared else []))
        parts.append(Part("a checkpoint being written", 0.0, copied, how))
    return parts


def loading(learner: Learner, shape: Shape, *, ranks_a_node: int) -> Part:
    """What a node's ranks take in their host's memory to read the model. Under ZeRO 3 each reads its own slices."""
    here, count = min(ranks_a_node, learner.ranks), float(shape.parameters)
    if learner.zero_stage == 3:
        each, how = 4 * count / learner.ranks + 4.0 * shape.largest_tensor, "its share and the largest tensor"
    else:
        each, how = 4 * count, "the model in float32"
    return Part("to start", 0.0, here * each, f"{here} x {how}, before training")


def shared_memory(shape: Shape, *, width: int) -> Part:
    """The copy of the weights that a rollout node's workers share: two versions. ``width``: bytes of a weight."""
    return Part("two versions, shared", 0.0, 2.0 * width * shape.parameters, f"2 x {width} bytes a parameter")


def taking_in(shape: Shape) -> Part:
    """What the worker that reads for its node takes beside the shared copy."""
    return Part("a version being read", 0.0, TAKING_IN * shape.parameters, f"at most {TAKING_IN} bytes a parameter")
