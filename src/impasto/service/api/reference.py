"""The routes in docs/api.md: `python -m impasto.service.api.reference docs/api.md`."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastapi.routing import iter_route_contexts

from impasto.service.api import app, system
from impasto.service.api.access import Requires
from impasto.service.roles import PERMISSIONS, ROLES, Permission

BEGIN = "<!-- Written by: python -m impasto.service.api.reference docs/api.md -->"
EVERYWHERE = frozenset({"400", "401", "403", "422", "500", "503"})
"""Statuses that any route may answer with; the page says so once."""
END = "<!-- Up to here. -->"


def reference() -> str:
    """The roles with their permissions, every route, and the bodies that they name."""
    described = app.with_routes((*app.ROUTERS, system.closed_metrics))
    document = described.openapi()
    lines = list(_roles())
    for context in iter_route_contexts(described.routes):
        for method in sorted(context.methods or ()):
            operation = document["paths"].get(context.path, {}).get(method.lower())
            if operation is not None:
                lines += _route(f"{method} {context.path}", operation, _lowest(context.dependant))
    lines.append("\n## Bodies")
    for name, schema in sorted(document["components"]["schemas"].items()):
        lines += _body(name, schema)
    return "\n".join(lines)


def _roles() -> Iterator[str]:
    yield "| permission | " + " | ".join(ROLES) + " |"
    yield "|---" * (len(ROLES) + 1) + "|"
    for permission in Permission:
        marks = ("✓" if permission in PERMISSIONS[role] else "" for role in ROLES)
        yield f"| `{permission}` | " + " | ".join(marks) + " |"


def _lowest(dependant: Any) -> str:
    """The lowest role that a route lets in."""
    asked = _permission(dependant)
    if asked is None:
        return "anybody"
    return next(role for role in ROLES if asked in PERMISSIONS[role])


def _permission(dependant: Any) -> Permission | None:
    if isinstance(dependant.call, Requires):
        return dependant.call.permission
    found = (_permission(each) for each in dependant.dependencies)
    return next((each for each in found if each is not None), None)


def _route(name: str, operation: dict[str, Any], lowest: str) -> Iterator[str]:
    yield f"\n### `{name}`\n"
    above = "" if lowest in {"anybody", "admin"} else " and above"
    yield f"{operation['summary']}: {lowest}{above}.\n\n{operation['description']}\n"
    for parameter in operation.get("parameters", ()):
        if parameter["in"] != "path":
            words = [_type(parameter["schema"]), parameter.get("description", "")]
            yield f"- {parameter['in']} `{parameter['name']}`: {'. '.join(filter(None, words))}"
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"- body: `{kind}`{_named(content)}"
    for status, answer in operation["responses"].items():
        if status.startswith("2"):
            contents = answer.get("content", {}).items()
            shapes = [f"`{kind}`{_named(content)}" for kind, content in contents]
            yield f"- {status}: {', '.join(shapes) or 'no body'}"
    own = {status for status in operation["responses"] if status >= "4"} - EVERYWHERE
    if own:
        yield f"- also {', '.join(sorted(own))}"


def _body(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f"\n### {name}\n\n{schema.get('description', '')}\n"
    for field, about in schema.get("properties", {}).items():
        must = " (must be there)" if field in schema.get("required", ()) and _taken(name) else ""
        words = [_type(about), about.get("description", "")]
        yield f"- `{field}`{must}: {'. '.join(filter(None, words))}"


def _taken(name: str) -> bool:
    return name.endswith(("Request", "Options"))


def _type(schema: dict[str, Any]) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        kind = schema["$ref"].rpartition("/")[2]
    elif "enum" in schema:
        kind = ", ".join(map(str, schema["enum"]))
    elif "anyOf" in schema:
        kind = " or ".join(_type(each) for each in schema["anyOf"])
    elif schema.get("type") == "array":
        kind = f"list of {_type(schema['items'])}"
    else:
        kind = str(schema.get("const", schema.get("type", "")))
    bounds = [f"{word} {schema[key]:g}" for key, word in _BOUNDS.items() if key in schema]
    default = schema.get("default")
    usual = [f"default {default}"] if isinstance(default, str | int | float) else []
    return ", ".join([kind, *bounds, *usual])


_BOUNDS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "up to"}


def _named(content: dict[str, Any]) -> str:
    name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
    return f" {name}" if name else ""


def updated(page: str) -> str:
    """`page` with the part between the marks written anew."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{reference()}\n\n{END}{after}"


def main() -> None:
    """Write the part anew in the page whose path is given."""
    path = Path(sys.argv[1])
    path.write_text(updated(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
