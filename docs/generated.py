"""The pages of the reference that the code writes: every key, command, message and public name, from where each is
defined.

    python docs/generated.py [--check]
"""

import argparse
import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import typer
from leeway_rl.common.config import Config, section_of
from leeway_rl.common.described import described
from leeway_rl.leeway.cli import app

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"

PUBLIC = {
    "Environments, as a user writes them": ("common/environments.py", None),
    "Configurations": ("common/config/composing.py", ("compose", "parse", "dump", "preset_names")),
    "Advantages": ("learner/objective/advantage.py", ("has_signal", "is_trained", "group_advantages")),
    "The loss of a token": ("learner/objective/loss.py", None),
    "Importance weights": ("learner/objective/correction.py", ("Anchor", "anchor", "bounded_weights")),
    "Entropy control": ("learner/objective/entropy.py", ("ControllerState", "step_alpha", "state_after", "shortfall")),
    "The learning rate": ("learner/objective/learning_rate.py", ("learning_rate", "ess_factor", "ess_share")),
    "The token op": ("learner/objective/token_op.py", ("TokenOutput", "token_op")),
    "The bound": ("learner/flow/staleness.py", ("expired", "tokens_past", "head_staleness", "check_spans")),
    "Weights": ("common/weights/__init__.py", None),
    "pass@k": ("common/pass_at_k.py", ("pass_at_k",)),
    "The ledger": ("common/ledger.py", ("read", "last", "survey")),
}
"""What may be called from other programs: the file of each part, and its names; None for all that are public."""


def markdown(docstring: str) -> str:
    """A docstring as Markdown: double backticks become single ones, and a block after ``::`` becomes a fenced one."""
    lines: list[str] = []
    fenced = False
    for line in inspect.cleandoc(docstring).replace("``", "`").splitlines():
        if fenced and line.strip() and not line.startswith("    "):
            lines[-1:] = ["```", ""] if not lines[-1].strip() else [lines[-1], "```", ""]
            fenced = False
        if lines[-1:] == ["```"] and fenced and not line.strip():
            continue  # what separates the block from the text before it in a docstring
        lines.append(line[4:] if fenced else re.sub(r"::$", ":", line))
        if line.endswith("::") and not fenced:
            lines += ["", "```"]
            fenced = True
    if fenced:
        lines.append("```")
    return "\n".join(lines)


def cell(text: str) -> str:
    """Text that stands in one cell of a table."""
    return " ".join(text.replace("``", "`").split()).replace("|", "\\|")


def keys() -> str:
    """Every configuration key, section by section."""
    text = [
        "# Configuration keys",
        "You find here every key that a preset or `--set` may give: which values it takes, its default, and what it "
        "does. [Configuration](configuration.md) says how to write them. `leeway config` prints the same list.",
    ]
    section = ""
    for key in described():
        if key.name.partition(".")[0] != section:
            section = key.name.partition(".")[0]
            about = section_of(Config.model_fields[section].annotation).__doc__
            text += [f"## {section}", *([markdown(about)] if about else [])]
        default = (
            "It is required."
            if key.required
            else f"Default: `{key.default}`."
            if key.default
            else "Not set by default."
        )
        text.append(f"### {key.name}\n{_sentence(key.kind)} {default}\n\n{key.meaning}")
    return "\n\n".join(text) + "\n"


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:] + "."


def commands() -> str:
    """Every command of ``leeway``, in the groups of ``leeway --help``."""
    text = [
        "# Command line",
        "You find here every command of `leeway`, its arguments and its options. `leeway COMMAND --help` prints the "
        "same.",
    ]
    panel = ""
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        if command.rich_help_panel != panel:
            panel = command.rich_help_panel
            text.append(f"## {panel}")
        text.append(f"### leeway {name}\n{cell(command.help)}")
        below = getattr(command, "commands", None)
        if below is None:
            text += _parameters(command)
        for part, inner in (below or {}).items():
            text.append(f"#### leeway {name} {part}\n{cell(inner.help)}")
            text += _parameters(inner)
    return "\n\n".join(text) + "\n"


def _parameters(command: Any) -> list[str]:
    """The table of a command's arguments and options, if it has any."""
    rows = []
    for parameter in command.params:
        if parameter.name == "help":
            continue
        option = parameter.opts[0].startswith("-")
        name = ", ".join(parameter.opts) if option else (parameter.metavar or parameter.name.upper())
        flag = getattr(parameter, "is_flag", False)
        value = "" if flag or not option else f" {parameter.metavar or 'VALUE'}"
        default = parameter.default
        told = parameter.required or flag or default in (None, [], ()) or callable(default)
        said = "required" if parameter.required else "" if told else f"`{_portable(default)}`"
        rows.append(f"| `{name}{value}` | {said} | {cell(getattr(parameter, 'help', None) or '')} |")
    return ["\n".join(["| argument | default | meaning |", "|---|---|---|", *rows])] if rows else []


def _portable(default: object) -> str:
    return str(default).replace(str(Path.home()), "~")


def messages() -> str:
    """The wire types, and the Redis keys that they travel by."""
    types = ast.parse((ROOT / "common/types.py").read_text())
    text = [
        "# Wire messages and Redis keys",
        "You find here what the roles say to each other: each message with its fields, and each key of a run in Redis. "
        "The definitions are [common/types.py](../../common/types.py) and [common/keys.py](../../common/keys.py).",
        "## Messages",
        markdown(ast.get_docstring(types) or ""),
    ]
    for node in types.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            fields = list(_fields(node.body))
            text.append(f"### {node.name}\n{markdown(ast.get_docstring(node) or '')}")
            if fields:
                text.append("\n".join(["| field | type | meaning |", "|---|---|---|", *fields]))
    keys_class = next(n for n in ast.parse((ROOT / "common/keys.py").read_text()).body if isinstance(n, ast.ClassDef))
    made = next(n for n in keys_class.body if isinstance(n, ast.FunctionDef) and n.name == "__init__")
    rows = [f"| `{name}` | {cell(about)} |" for name, about in _described_attributes(made.body)]
    text += [
        "## Redis keys",
        "Each begins with `leeway:{RUN}:`.",
        "\n".join(["| key | what it is |", "|---|---|", *rows]),
    ]
    for node in keys_class.body:
        if (
            isinstance(node, ast.FunctionDef)
            and ast.get_docstring(node)
            and "String:" in (ast.get_docstring(node) or "")
        ):
            text.append(f"`{node.name}`: {cell(ast.get_docstring(node) or '')}")
    return "\n\n".join(text) + "\n"


def _fields(body: list[ast.stmt]) -> Iterator[str]:
    for node, after in zip(body, [*body[1:], None], strict=True):
        about = _text(after)
        if isinstance(node, ast.AnnAssign):
            yield f"| `{ast.unparse(node.target)}` | `{cell(ast.unparse(node.annotation))}` | {cell(about)} |"
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            yield f"| `{ast.unparse(node.targets[0])}` | `{node.value.value!r}` | {cell(about)} |"


def _described_attributes(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for node, after in pairwise(body):
        if isinstance(node, ast.Assign) and _text(after) and isinstance(node.value, ast.BinOp):
            yield ast.unparse(node.value.right).strip("'"), _text(after)


def _text(node: ast.stmt | None) -> str:
    """The docstring that stands below a field; empty where ``node`` is none."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return node.value.value
    return ""


def python() -> str:
    """The functions and classes that other programs may call."""
    text = [
        "# Python",
        "You find here what you may import from your own code. Names of arrays end in their shape; "
        "[CONTRIBUTING](../../CONTRIBUTING.md) lists the letters. [One process](../../examples/one_process.py) puts "
        "these parts together into the whole algorithm.",
    ]
    for title, (file, names) in PUBLIC.items():
        tree = ast.parse((ROOT / file).read_text())
        module = "leeway_rl." + file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        text += [f"## {title}", f"`{module}`", markdown(ast.get_docstring(tree) or "")]
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and (
                node.name in names if names else not node.name.startswith("_")
            ):
                text += _definition(node)
    return "\n\n".join(part for part in text if part) + "\n"


def _definition(node: ast.FunctionDef | ast.ClassDef) -> list[str]:
    about = markdown(ast.get_docstring(node) or "")
    if isinstance(node, ast.ClassDef):
        fields = list(_fields(node.body))
        table = ["\n".join(["| field | type | meaning |", "|---|---|---|", *fields])] if fields else []
        return [f"### {node.name}", about, *table]
    head = ast.FunctionDef(
        **{**{field: getattr(node, field) for field in node._fields}, "body": [], "decorator_list": []}
    )
    signature = ast.unparse(ast.fix_missing_locations(head)).removeprefix("def ").rstrip().removesuffix(":")
    if len(signature) > 100:
        inner, _, returned = signature.partition("(")[2].rpartition(") -> ")
        wrapped = textwrap.fill(inner, 96, initial_indent="    ", subsequent_indent="    ")
        signature = f"{node.name}(\n{wrapped}\n) -> {returned}"
    return [f"### {node.name}", f"```python\n{signature}\n```", about]


PAGES = {"keys.md": keys, "command-line.md": commands, "messages.md": messages, "python.md": python}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a page is not as the code says")
    arguments = parser.parse_args()
    stale = [name for name, page in PAGES.items() if _read(REFERENCE / name) != page()]
    if arguments.check:
        sys.exit(f"run docs/generated.py: {', '.join(stale)}" if stale else 0)
    for name in stale:
        (REFERENCE / name).write_text(PAGES[name](), encoding="utf-8")
        print(f"docs/reference/{name}")


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


if __name__ == "__main__":
    main()
