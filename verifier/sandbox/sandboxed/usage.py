"""Reads from a test program's text what it uses of a solution. The text is trusted; no solution is asked. Pure."""

import ast
import builtins

_BUILTINS = frozenset(dir(builtins))


def wanted(tests: str, prefix_names: set[str]) -> list[str]:
    """Names that the tests use and only the solution can define. Builtins are not among them: those stay ours."""
    nodes = list(ast.walk(ast.parse(tests)))
    names = [node for node in nodes if isinstance(node, ast.Name)]
    stored = {node.id for node in names if not isinstance(node.ctx, ast.Load)}
    defined = {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    imports = [node for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom))]
    imported = {(alias.asname or alias.name).split(".")[0] for node in imports for alias in node.names}
    arguments = {node.arg for node in nodes if isinstance(node, ast.arg)}
    known = stored | defined | imported | arguments | prefix_names | _BUILTINS
    return sorted({node.id for node in names} - known)


def used_as_classes(tests: str) -> set[str]:
    """Names that the tests spell like classes and use as such: an instance is asked for an attribute, is compared with
    another one, or stands in a container. What the solution says of itself does not count, and the
    spelling is not enough: a function called ``Area`` would answer a test of its number with an object of any opinion.
    """
    nodes = list(ast.walk(ast.parse(tests)))
    made_by: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.Assign) and (maker := _made_by_call(node.value)):
            made_by |= {target.id: maker for target in node.targets if isinstance(target, ast.Name)}

    def maker_of(node: ast.AST) -> str:
        name = node.id if isinstance(node, ast.Name) else ""
        return _made_by_call(node) or made_by.get(name, "")

    found: set[str] = set()
    for node in nodes:
        match node:
            case ast.Attribute(value=value):
                found |= {maker_of(value), value.id if isinstance(value, ast.Name) else ""}
            case ast.Compare(left=left, comparators=others):
                sides = [set(map(maker_of, ast.walk(side))) - {""} for side in (left, *others)]
                if sum(map(bool, sides)) > 1:
                    found = found.union(*sides)
            case ast.List(elts=parts) | ast.Set(elts=parts) | ast.Tuple(elts=parts):
                found |= set(map(maker_of, parts))
            case ast.Dict(keys=keys, values=values):
                found |= {maker_of(part) for part in (*keys, *values) if part is not None}
            case ast.Call(func=ast.Name(id="isinstance" | "issubclass"), args=[_, cls]):
                found |= {name.id for name in ast.walk(cls) if isinstance(name, ast.Name)}
            case ast.ClassDef(bases=bases):
                found |= {base.id for base in bases if isinstance(base, ast.Name)}
            case ast.withitem(context_expr=made):
                found.add(maker_of(made))
    return {name for name in found if name[:1].isupper()}


def _made_by_call(node: ast.AST | None) -> str:
    """The name that is called if the node is such a call: ``Point`` for ``Point(1, 2)``."""
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
