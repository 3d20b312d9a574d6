"""The frame of the pages that the desk writes: one HTML file that needs nothing beside it."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ...common.errors import LeewayError

FRAME = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }} – Leeway report</title>
<style>
  body { margin: 2.5rem auto; max-width: {{ width }}; padding: 0 1.25rem; background: #fff; color: #1f2328;
         font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
  h1 { font-size: 1.6rem; margin: 0; }
  h2 { font-size: 1.1rem; margin: 2.5rem 0 .6rem; }
  img { width: 100%; height: auto; margin-top: 1.5rem; }
  table { border-collapse: collapse; width: 100%; max-width: 48rem; font-variant-numeric: tabular-nums; }
  table.wide { max-width: none; font-size: 13px; }
  th, td { text-align: left; vertical-align: top; padding: .28rem .8rem .28rem 0; border-bottom: 1px solid #e4e7eb; }
  th[scope=rowgroup] { padding-top: 1.1rem; border-bottom: 1px solid #8b949e; }
  th[scope=row] { font-weight: normal; color: #57606a; width: 45%; }
  .wide th[scope=row] { width: auto; }
  .wide td, .wide th[scope=row] { white-space: nowrap; }
  .shown { font-weight: 600; }
  dt { font-weight: 600; margin-top: .7rem; }
  dd { margin: 0; max-width: 48rem; }
  pre { background: #f6f8fa; padding: 1rem; overflow-x: auto; font: 13px/1.45 Menlo, Consolas, monospace; }
  .samples { max-width: none; }
  .samples pre { margin: .2rem 0; padding: .4rem .6rem; white-space: pre-wrap; overflow-wrap: anywhere; }
  .samples pre[title=environment] { background: #fff4dd; }
  .missing { border-left: 4px solid #d55e00; padding-left: 1rem; }
</style>
{% block body %}{% endblock %}
</html>
"""


def render(body: str, *, title: str, width: str = "62rem", **values: Any) -> str:
    """The page whose Jinja ``body`` stands in a ``{% block body %}``; ``values`` are escaped."""
    from jinja2 import DictLoader, Environment, StrictUndefined

    pages = DictLoader({"frame": FRAME, "page": '{% extends "frame" %}\n' + body})
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, loader=pages)
    return environment.get_template("page").render(title=title, width=width, **values)


def embedded(picture: bytes) -> str:
    """A PNG as the ``src`` of an ``img``."""
    return "data:image/png;base64," + base64.b64encode(picture).decode("ascii")


@contextmanager
def report_extra() -> Iterator[None]:
    """A context for imports that the ``report`` extra brings. ``LeewayError`` says what is missing and how to get
    it."""
    try:
        yield
    except ImportError as error:
        raise LeewayError(f"the report needs {error.name}: pip install 'leeway-rl[report]'") from error
