"""How many floating-point operations a token takes in a model of Llama's shape. Pure."""

from typing import Protocol


class Sized(Protocol):
    """A model's sizes, by the names of its config.json."""

    @property
    def layers(self) -> int: ...
    @property
    def hidden(self) -> int: ...
    @property
    def intermediate(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def kv_heads(self) -> int: ...
    @property
    def head_dim(self) -> int: ...
    @property
    def vocabulary(self) -> int: ...


def flops_per_token(shape: Sized, context: float) -> float:
    """Operations of a forward pass for one token that attends to ``context`` tokens; a causal sequence of n tokens has
    a mean context of (n + 1) / 2.

    Two operations for each weight that a token is multiplied with, the head included, and for each layer two products
    of the token's queries, with the keys and with the values of its context. Norms, softmax and rotary embeddings are
    left out. A backward pass takes twice as many, and recomputing the layers one forward pass more.
    """
    wide, narrow = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    layer = 2 * shape.hidden * wide + 2 * shape.hidden * narrow + 3 * shape.hidden * shape.intermediate
    attention = 4 * wide * context
    return shape.layers * (2 * layer + attention) + 2.0 * shape.hidden * shape.vocabulary
