"""Makes reasons of verdicts and failures safe to show, since they may quote somebody else's words."""

MAX_CHARS = 200


def printable(reason: str) -> str:
    """The reason as at most ``MAX_CHARS`` characters that any terminal and any codec can take."""
    plain = "".join(char if char.isprintable() else " " for char in reason[:MAX_CHARS])
    return plain.encode("utf-8", "replace").decode()
