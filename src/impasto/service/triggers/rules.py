"""Which arrivals become runs, and painted how: the rule table, and sidecars that override it.

    [[serve.rules]]
    prefix  = "in/news"                  # of the media store; "" or nothing: all of it
    pattern = "*.mp4"                    # of the name; with a slash, of the path below the prefix
    style   = "starry_night"             # or blend = {starry_night = 0.7, the_scream = 0.3},
    target  = "painted/{stem}.{style}.{ext}"                         # or model = "models/mine.onnx"
    strength = 0.7                       # and every other option, as on the command line

The first rule that matches counts. A sidecar, a.toml beside a.mp4, has the same keys but for
prefix, pattern, user and priority, and its word goes before the rule's.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from impasto.errors import RequestError
from impasto.media.stitch import MUXERS
from impasto.service.records import Origin, Submission
from impasto.service.submissions import OPTIONS, check
from impasto.service.triggers.names import (
    STILLS,
    UPLOADS,
    VIDEOS,
    below,
    check_prefix,
    last_part,
    suffix,
    without_suffix,
)
from impasto.styles import name_of

USER = "triggers"
"""Owner of runs that nobody asked for by name, unless the rule says whose they are."""
TARGET = "{prefix}/../painted/{stem}.{style}.{ext}"
MAX_SIDECAR_BYTES = 64 << 10

_SCORERS = frozenset({"style", "blend", "model"})
_WISHES = _SCORERS | {"target"} | OPTIONS
_KEYS = _WISHES | {"prefix", "pattern", "user", "priority"}
_PLACEHOLDERS = ("prefix", "stem", "style", "ext")
_FIELD = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How something is to be painted, and where the painting goes."""

    style: str | dict[str, float] | None = None
    """As `Submission.style`; exactly one of `style` and `model`."""
    model: str | None = None
    """Path of an ONNX file within the media store."""
    target: str = TARGET
    """A template: {prefix}, {stem} (the path below the prefix, without its extension), {style},
    {ext}."""
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def scorer(self) -> str:
        """What {style} stands for: a style's or a blend's name, or a model's stem."""
        if self.model is not None:
            return without_suffix(last_part(self.model))
        if isinstance(self.style, str):  # a name, or the path of a painting
            return without_suffix(last_part(self.style))
        return name_of(self.style or "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What becomes of objects whose keys match."""

    wish: Wish
    prefix: str = ""
    pattern: str = ""
    """Empty: every video."""
    user: str = USER
    priority: int = 0

    def matches(self, key: str, *, folder: bool = False) -> bool:
        """Whether this rule is about `key`, or about a folder of frames there.

        Letters match in either case. Uploads over HTTP belong to runs that were asked for: a rule
        has to name their folder.
        """
        inside = below(self.prefix, key)
        if not inside or (not self.prefix and below(UPLOADS, key) is not None):
            return False
        kind = suffix(key)
        if not self.pattern:
            return folder or kind in VIDEOS
        if not folder and kind not in VIDEOS and kind not in STILLS:
            return False
        path = inside.lower()
        part = path if "/" in self.pattern else path.rpartition("/")[2]
        return fnmatchcase(part, self.pattern.lower())

    def submission(
        self, key: str, wish: Wish, *, origin: Origin, folder: bool = False
    ) -> Submission:
        """What to ask the service for when the object at `key`, or a folder of frames, has come."""
        options = {k: v for k, v in wish.options.items() if folder or k != "rate"}
        return Submission(
            source=key,
            style=wish.style,
            model=wish.model,
            target=target_for(key, wish, prefix=self.prefix, folder=folder),
            options=options,
            user=self.user,
            priority=self.priority,
            origin=origin,
        )


def match(rules: Iterable[Rule], key: str, *, folder: bool = False) -> Rule | None:
    """The first rule about `key`, or about a folder of frames there."""
    return next((rule for rule in rules if rule.matches(key, folder=folder)), None)


def target_for(key: str, wish: Wish, *, prefix: str, folder: bool = False) -> str:
    """Name the target of the video, or the folder of frames, at `key`.

    Raises:
        RequestError: it would lie outside the store, or be the video itself.
    """
    kind = ".mp4" if folder else suffix(key)
    writable = kind in MUXERS or kind in STILLS
    inside = below(prefix, key) or key
    values = {
        "prefix": prefix,
        "stem": inside if folder else without_suffix(inside),
        "style": wish.scorer,
        "ext": kind[1:] if writable else "mkv",  # which holds the streams of any other
    }
    parts: list[str] = []
    for part in _FIELD.sub(lambda found: values[found[1]], wish.target).split("/"):
        if part == "..":
            parts[-1:] = []  # above the whole store there is the store
        elif part not in {"", "."}:
            parts.append(part)
    target = "/".join(parts)
    if target == key:
        raise RequestError(f"the target {target!r} would be the video itself")
    return target


def read_rules(tables: Any, *, where: str) -> tuple[Rule, ...]:
    """Read the array of tables [[serve.rules]].

    Args:
        tables: as TOML gives them.
        where: names them in an error.

    Raises:
        RequestError: a key or a value that means nothing.
    """
    if not isinstance(tables, list):
        raise RequestError(f"{where} must be tables [[{where}]], got {tables!r:.80}")
    return tuple(read_rule(table, where=f"{where} {n}") for n, table in enumerate(tables, 1))


def read_rule(table: Any, *, where: str) -> Rule:
    """Read one rule.

    Raises:
        RequestError: a key or a value that means nothing, or nothing to paint with.
    """
    _only(table, _KEYS, where)
    wish = _wish(Wish(), {k: v for k, v in table.items() if k in _WISHES}, where)
    if wish.style is None and wish.model is None:
        raise RequestError(f"{where} needs a style, a blend or a model")
    rule = Rule(
        wish=wish,
        prefix=_located(where, check_prefix, _text(table, "prefix", where)),
        pattern=_text(table, "pattern", where),
        user=_text(table, "user", where) or USER,
        priority=_whole(table.get("priority", 0), where),
    )
    example = "/".join(filter(None, [rule.prefix, "a.mp4"]))
    _located(where, check, rule.submission(example, wish, origin="watch", folder=True))
    return rule


def read_sidecar(text: bytes, rule: Rule, *, where: str) -> Wish:
    """Let the TOML beside a video override what its rule wishes for.

    Raises:
        RequestError: it is not TOML, or holds a key or a value that means nothing.
    """
    if len(text) > MAX_SIDECAR_BYTES:
        raise RequestError(f"{where} has over {MAX_SIDECAR_BYTES} bytes")
    try:
        table = tomllib.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError
        raise RequestError(f"{where} is not TOML: {str(error)[:200]}") from None
    _only(table, _WISHES, where)
    wish = _wish(rule.wish, table, where)
    example = "/".join(filter(None, [rule.prefix, "a.mp4"]))
    _located(where, check, rule.submission(example, wish, origin="watch", folder=True))
    return wish


def _wish(base: Wish, table: Mapping[str, Any], where: str) -> Wish:
    named = sorted(_SCORERS & table.keys())
    if len(named) > 1:
        raise RequestError(f"{where}: {' and '.join(named)} exclude each other; give one of them")
    wish = replace(base, options=base.options | {k: v for k, v in table.items() if k in OPTIONS})
    match named:
        case ["style"]:
            wish = replace(wish, model=None, style=_text(table, "style", where))
        case ["blend"]:
            wish = replace(wish, model=None, style=_blend(table["blend"], where))
        case ["model"]:
            wish = replace(wish, style=None, model=_text(table, "model", where))
        case _:
            pass
    if "target" in table:
        wish = replace(wish, target=_template(_text(table, "target", where), where))
    return wish


def _blend(value: Any, where: str) -> dict[str, float]:
    numbers = isinstance(value, dict) and all(
        isinstance(weight, int | float) and not isinstance(weight, bool)
        for weight in value.values()
    )
    if not numbers or not value:
        raise RequestError(
            f"{where}: blend reads {{starry_night = 0.7, udnie = 0.3}}, got {value!r:.80}"
        )
    blend = {name: float(weight) for name, weight in value.items()}
    _located(where, name_of, blend)
    return blend


def _template(text: str, where: str) -> str:
    for name in _FIELD.findall(text):
        if name not in _PLACEHOLDERS:
            known = ", ".join(f"{{{each}}}" for each in _PLACEHOLDERS)
            raise RequestError(f"{where}: unknown {{{name}}} in target; there are {known}")
    if "{stem}" not in text:
        raise RequestError(
            f"{where}: target needs {{stem}}, so that each video has its own, got {text!r:.200}"
        )
    if set("{}") & set(_FIELD.sub("", text)):
        raise RequestError(f"{where}: a brace without its fellow in target {text!r:.200}")
    return text


def _only(table: Any, known: frozenset[str], where: str) -> None:
    if not isinstance(table, dict):
        raise RequestError(f"{where} must be a table, got {table!r:.80}")
    for key in table:
        if key not in known:
            raise RequestError(
                f"{where}: unknown key {key!r:.80}; the keys are {', '.join(sorted(known))}"
            )


def _text(table: Mapping[str, Any], key: str, where: str) -> str:
    value = table.get(key, "")
    if not isinstance(value, str) or (key in table and not value and key != "prefix"):
        raise RequestError(f"{where}: {key} must be text in quotes, got {value!r:.80}")
    return value


def _whole(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise RequestError(f"{where}: priority must be a whole number, got {value!r:.80}")
    return value


def _located(where: str, function: Any, value: Any) -> Any:
    """Call `function` on a value of the file, and say where it stood when it is refused."""
    try:
        return function(value)
    except RequestError as error:
        raise RequestError(f"{where}: {error}") from None
