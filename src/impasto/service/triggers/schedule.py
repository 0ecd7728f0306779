"""When a schedule is due: cron expressions and plain intervals. The clock is passed in."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from impasto.errors import RequestError
from impasto.service.triggers.rules import Rule, read_rule

_KEYS = frozenset({"cron", "every", "timezone"})
_EVERY = re.compile(r"([1-9][0-9]{0,5})(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LEAST_S = 10


@dataclass(frozen=True, slots=True)
class Schedule:
    """At which moments everything new that `rule` matches becomes a run."""

    rule: Rule
    cron: str = ""
    """Five fields: minute, hour, day of the month, month, day of the week. Either this or:"""
    every_s: int = 0
    """Seconds; counted from midnight UTC on 1 January 1970, so that a restart shifts nothing."""
    timezone: str = "UTC"
    """In which the cron expression's hours are meant."""

    @property
    def name(self) -> str:
        """What its last turn is remembered under; another time or place is another schedule."""
        when = f"cron {self.cron} {self.timezone}" if self.cron else f"every {self.every_s}s"
        return f"{when} {self.rule.prefix}/{self.rule.pattern}"

    def last_due(self, now: datetime) -> datetime:
        """The latest moment up to `now`, an aware time, at which it was due."""
        if self.every_s:
            seconds = int(now.timestamp())
            return datetime.fromtimestamp(seconds - seconds % self.every_s, UTC)
        from croniter import croniter  # type: ignore[import-untyped]

        # get_prev gives what lies before its start, and `now` itself counts here.
        start = now.astimezone(ZoneInfo(self.timezone)) + timedelta(microseconds=1)
        due: datetime = croniter(self.cron, start).get_prev(datetime)
        return due.astimezone(UTC)


def read_schedules(tables: Any, *, where: str) -> tuple[Schedule, ...]:
    """Read [[serve.schedules]]: a rule's keys beside `cron` or `every`, and `timezone`.

    Args:
        tables: the TOML's array of tables.
        where: names it in an error.

    Raises:
        RequestError: a key or a value that means nothing.
    """
    if not isinstance(tables, list):
        raise RequestError(f"{where} must be tables [[{where}]], got {tables!r:.80}")
    return tuple(_read(table, f"{where} {n}") for n, table in enumerate(tables, 1))


def _read(table: Any, where: str) -> Schedule:
    if not isinstance(table, dict):
        raise RequestError(f"{where} must be a table, got {table!r:.80}")
    rule = read_rule({k: v for k, v in table.items() if k not in _KEYS}, where=where)
    for key in _KEYS & table.keys():
        if not isinstance(table[key], str):
            raise RequestError(f"{where}: {key} must be text in quotes, got {table[key]!r:.80}")
    if ("cron" in table) == ("every" in table):
        raise RequestError(f'{where} needs cron = "0 3 * * *" or every = "1h", one of them')
    zone = table.get("timezone", "UTC")
    if "every" in table:
        if zone != "UTC":
            raise RequestError(f"{where}: timezone belongs to cron; every counts in UTC")
        return Schedule(rule, every_s=_interval(table["every"], where))
    return Schedule(rule, cron=_cron(table["cron"], where), timezone=_zone(zone, where))


def _interval(text: str, where: str) -> int:
    found = _EVERY.fullmatch(text)
    seconds = int(found[1]) * _SECONDS[found[2]] if found else 0
    if seconds < _LEAST_S:
        raise RequestError(f"{where}: every reads 90s, 30m, 1h or 1d, from 10s up, got {text!r}")
    return seconds


def _cron(text: str, where: str) -> str:
    from croniter import croniter

    if len(text.split()) != 5 or len(text) > 200 or not croniter.is_valid(text):
        raise RequestError(
            f"{where}: cron has five fields, minute hour day month weekday, such as "
            f'"0 3 * * *", got {text!r:.200}'
        )
    try:
        croniter(text, datetime(2024, 1, 1, tzinfo=UTC)).get_prev(datetime)
    except (ValueError, KeyError) as error:  # such as 30 February
        raise RequestError(f"{where}: cron {text!r} never comes: {error}") from None
    return text


def _zone(name: str, where: str) -> str:
    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        raise RequestError(
            f"{where}: timezone must be a name such as Europe/Berlin, got {name!r}"
        ) from None
    return name
