"""The reward of my-task. The name in preset.toml is reward.py:digits."""


def digits(response, row):
    """The share of the answer's digits that stand in the box, each in its place."""
    _, boxed, rest = response.rpartition("\\boxed{")
    said, due = rest.partition("}")[0], row["answer"]
    if not boxed or len(said) != len(due):
        return 0.0
    return sum(one == other for one, other in zip(said, due, strict=True)) / len(due)
