"""What the configuration says about triggers, beside the rules.

    [[serve.watch]]          # or --watch PREFIX --style NAME
    prefix = "in"
    style  = "starry_night"  # with a style, blend or model: a rule of its own, after the table's

    [serve.triggers]
    interval_s    = 5.0      # between two scans of a prefix
    settle_s      = 5.0      # for which an object must not have changed
    skip_existing = true     # what lies there at the very first start stays as it is

Whatever is read here is checked before the service starts.
"""

from dataclasses import dataclass, field

import msgspec

from impasto.errors import RequestError
from impasto.service.settings import ServeSettings
from impasto.service.triggers.names import check_prefix
from impasto.service.triggers.rules import Rule, read_rule, read_rules
from impasto.service.triggers.schedule import Schedule, read_schedules
from impasto.service.triggers.settling import Patience


class Pace(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table [serve.triggers]."""

    interval_s: float = 5.0
    """Between two scans of a prefix; one that takes long is given four times its own time."""
    settle_s: float = 5.0
    """For which an object must not have changed."""
    unfinished_s: float = 3600.0
    """How long a file is waited for that says of itself that a part is missing."""
    skip_existing: bool = False
    """Whether what lies below a prefix at its very first scan is left alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerSettings:
    """Everything that starts runs by itself."""

    rules: tuple[Rule, ...] = ()
    """The table's, then those of the watched prefixes."""
    watched: tuple[str, ...] = ()
    schedules: tuple[Schedule, ...] = ()
    pace: Pace = field(default_factory=Pace)

    @property
    def patience(self) -> Patience:
        """How long an object is left alone before it is taken."""
        return Patience(settle_s=self.pace.settle_s, unfinished_s=self.pace.unfinished_s)


def read_triggers(settings: ServeSettings) -> TriggerSettings:
    """The triggers in the table [serve].

    Raises:
        RequestError: a key or a value that means nothing, or a watch without a rule.
    """
    rules = read_rules(list(settings.rules), where="serve.rules")
    watched = []
    for n, table in enumerate(settings.watch, 1):
        where = f"serve.watch {n}"
        if not isinstance(table.get("prefix"), str):
            raise RequestError(f"{where} needs a prefix of the media store, such as in")
        watched.append(check_prefix(table["prefix"]))
        if table.keys() != {"prefix"}:
            rules += (read_rule(table, where=where),)
        elif not rules:
            raise RequestError(f"{where} needs a style, or [[serve.rules]] that say what to do")
    return TriggerSettings(
        rules=rules,
        watched=tuple(dict.fromkeys(watched)),
        schedules=read_schedules(list(settings.schedules), where="serve.schedules"),
        pace=_pace(settings),
    )


def _pace(settings: ServeSettings) -> Pace:
    try:
        pace = msgspec.convert(settings.triggers, Pace)
    except msgspec.ValidationError as error:
        raise RequestError(f"[serve.triggers]: {error}") from None
    for name, least in {"interval_s": 0.1, "settle_s": 0, "unfinished_s": 0}.items():
        if not getattr(pace, name) >= least:
            raise RequestError(
                f"[serve.triggers]: {name} must be at least {least}, got {getattr(pace, name)}"
            )
    return pace
