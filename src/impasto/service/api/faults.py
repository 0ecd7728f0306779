"""What is wrong with the form of a request, a plain line each."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field

from impasto.observe.redact import redact
from impasto.service.api.forms import WORDS
from impasto.wording import did_you_mean

_MOST = 20
_SHOWN = 80
"""Characters of a value that are repeated."""
_KINDS = re.compile(r"str|(constrained|function)-.*|dict\[.*|literal\[.*|\[key\]")
"""Steps of pydantic's that stand for a type among several, and for no place in a body."""
_ALLOWED = {
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "literal_error": "{expected}",
    "greater_than": "above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
    "string_too_short": "of length {min_length} or more",
    "string_too_long": "of length {max_length} or less",
    "too_short": "of length {min_length} or more",
    "too_long": "of length {max_length} or less",
}
"""Kinds of pydantic's errors, and what would be right, with what their context says."""


class Fault(BaseModel):
    """One thing that is wrong with a request."""

    detail: str
    pointer: str | None = Field(
        default=None, description="Where in the body: a JSON pointer (RFC 6901)."
    )
    parameter: str | None = Field(
        default=None, description="Which query parameter, path part or header."
    )

    @property
    def line(self) -> str:
        """Where it is, and what."""
        place = self.pointer or self.parameter
        return f"{place}: {self.detail}" if place else self.detail


def faults_of(request: Request, error: RequestValidationError) -> list[Fault]:
    """Every place at which a request has the wrong form: what is there, and what is allowed."""
    places: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for each in error.errors()[:_MOST]:
        steps = each["loc"] if each["type"] != "json_invalid" else ()
        place = tuple(str(step) for step in steps if not _KINDS.fullmatch(str(step)))
        places.setdefault(place, []).append(each)
    # What is said of a place as a whole is of another type than what is said of a part of it.
    leaves = [p for p in places if not any(other[: len(p)] == p != other for other in places)]
    return [_fault(request, place, places[place]) for place in leaves]


def _fault(request: Request, place: Sequence[str], errors: Sequence[Mapping[str, Any]]) -> Fault:
    kind, *path = place or ("body",)
    detail = _detail(request, path, errors)
    if not path:
        return Fault(detail=detail)
    if kind == "body":
        steps = (step.replace("~", "~0").replace("/", "~1")[:_SHOWN] for step in path)
        return Fault(detail=detail, pointer="".join(f"/{step}" for step in steps))
    return Fault(detail=detail, parameter=path[0][:_SHOWN])


def _detail(request: Request, path: Sequence[str], errors: Sequence[Mapping[str, Any]]) -> str:
    first = errors[0]
    subject = "" if path else "the body "
    match first["type"]:
        case "json_invalid":
            return "the body is not JSON"
        case "missing":
            return f"{subject}is missing"
        case "extra_forbidden":
            return f"unknown field {path[-1][:_SHOWN]!r}; {_known(request, path)}"
        case "value_error":
            return str(first["ctx"]["error"])
    allowed = " or ".join(dict.fromkeys(map(_allowed, errors)))
    return f"{subject}must be {allowed}, got {_shown(first['input'])}"


def _allowed(error: Mapping[str, Any]) -> str:
    context = {name: _plain(value) for name, value in error.get("ctx", {}).items()}
    if error["type"] == "string_pattern_mismatch":
        return WORDS[context["pattern"]]
    words = _ALLOWED.get(error["type"])
    if words is None:
        return f"otherwise ({error['msg']})"
    return words.format_map(context).replace("'", "")


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _shown(value: Any) -> str:
    """A value as JSON writes it, without what may be a secret; a long text as its length."""
    if isinstance(value, str) and len(value) > _SHOWN:
        return f"{len(value)} characters"
    text = redact(json.dumps(value, default=str))
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _known(request: Request, path: Sequence[str]) -> str:
    """Where an unknown field belongs, what was meant by it, or what there is."""
    *steps, name = path
    fields = _fields(request.scope["route"].dependant.body_params[0].field_info.annotation, steps)
    for inner, field in fields.items():
        if name in _fields(field, ()):
            return f"it belongs into {inner!r}"
    return did_you_mean(name, fields) or f"there are {', '.join(fields)}"


def _fields(model: Any, steps: Iterable[str]) -> dict[str, Any]:
    """The fields of the model at that place, and their types."""
    for step in steps:
        model = _fields(model, ()).get(step)
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return {}
    return {name: field.annotation for name, field in model.model_fields.items()}
