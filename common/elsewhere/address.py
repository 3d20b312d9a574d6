"""The address of a place: a URL or a whole path. Pure but for ``why_missing``, which looks for packages."""

import os
import re
from importlib.util import find_spec

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
"""Our extra that brings the package for a scheme."""
LOCAL = ("file", "local")


def scheme_of(address: str) -> str:
    """How the place is spoken to; ``file`` for a path."""
    found = _SCHEME.match(address)
    return found[1].lower() if found else "file"


def why_not(address: str) -> str | None:
    """What is wrong with ``address`` and what would be right, beginning with the address without its secrets; None
    where it may be used."""
    said = repr(masked(address))
    if _SCHEME.match(address) is None:
        if os.path.isabs(os.path.expanduser(address)):
            return None
        return f"{said}: it depends on where somebody stands; a whole path or a URL is right"
    if said != repr(address):
        return (
            f"{said}: there is a password, a key or a query in it, and the configuration is stored and printed; the "
            "environment is the place for it (AWS_ACCESS_KEY_ID, GOOGLE_APPLICATION_CREDENTIALS, …)"
        )
    if "::" in address:
        return f"{said}: several places in one address; name the place itself"
    if scheme_of(address) in ("memory", "data"):
        return f"{said}: nothing stays there when the process ends; a folder or an object store is right"
    return None


def masked(text: str) -> str:
    """``text`` without what may be a secret in the URLs of it: user and password, and everything after a ``?``."""
    return re.sub(r"\S+", lambda word: _masked_word(word[0]), text)


def _masked_word(word: str) -> str:
    """A password may have any characters in it, among them / and @, so it ends at the last @ of the word."""
    scheme, there, place = word.partition("://")
    if not there:
        return word
    login, _, behind = place.rpartition("@")
    if ":" in login.partition("/")[0].partition("@")[0]:
        place = f"***@{behind}"
    place, asked, _ = place.partition("?")
    return scheme + there + place + ("?***" if asked else "")


def why_missing(address: str) -> str | None:
    """What ``address`` needs and is not here, beginning with the address without its secrets; None where it is here."""
    scheme = scheme_of(address)
    if find_spec("fsspec") is None:
        return f"{masked(address)!r} needs fsspec, which is not here: pip install 'leeway-rl[s3]'"
    from fsspec.registry import known_implementations

    known = known_implementations.get(scheme)
    if known is None:
        return f"{masked(address)!r}: fsspec knows no places that begin with {scheme}://"
    package = known["class"].partition(".")[0]
    if find_spec(package) is not None:
        return None
    how = f"'leeway-rl[{EXTRAS[scheme]}]'" if scheme in EXTRAS else package
    return f"{masked(address)!r} needs {package}, which is not here: pip install {how}"


def extra_of(address: str) -> str | None:
    """Our extra that brings what speaks to ``address``; None where there is none, or none is needed."""
    return EXTRAS.get(scheme_of(address))


def under(address: str, name: str) -> str:
    """The address of ``name`` in the place."""
    return f"{address.rstrip('/')}/{name}"
