"""What configuration decides about the service: the table [serve] of the file, and the options.

    [serve]
    media        = "/srv/media"                       # or --media
    system       = "/srv/system"                      # or --system
    database     = "postgresql://impasto@db/impasto"  # or --database; default: SQLite
    jobs         = 1                                  # runs carried out at a time, by this process
    keep_warm_s  = 30.0

    [serve.quota]                                     # of one user
    open_runs    = 100

    [serve.job]                                       # of one run's process
    memory_bytes = 8_000_000_000

`oidc` is read by `service.oidc`, `watch`, `rules` and `schedules` by `service.triggers`.
"""

from typing import Any, Literal

import msgspec

from impasto.errors import RequestError
from impasto.service.limits import Quota
from impasto.stores import overlap

LEAST_AUDIT_DAYS = 30
"""For which the database itself lets no entry of the audit log go."""


class JobLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the process of one run may use; the kernel holds it to that."""

    memory_bytes: int = 16 << 30
    """Address space, of the run's process and of each worker that it starts."""
    cpu_s: int = 7 * 24 * 3600
    file_bytes: int = 1 << 40
    """Size of any file that it writes."""
    open_files: int = 1024
    wall_s: float = 7 * 24 * 3600
    """Seconds after which an attempt is taken for stuck and ended; the next goes on from there."""


class ServeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that `impasto serve` is told."""

    media: str = ""
    """URL or path of the media store: sources and targets."""
    system: str = ""
    """URL or path of the system store: plans, segments, logs, networks."""
    database: str | None = None
    """None: a SQLite file in the user's data folder."""
    host: str = "127.0.0.1"
    port: int = 8080
    jobs: int = 1
    """Runs that this process carries out at a time; 0 only takes requests."""
    attempts: int = 3
    """Times that a run may fail or crash before it is set aside."""
    retry_after_s: float = 10.0
    """Pause before the second attempt; it doubles with each."""
    keep_warm_s: float = 30.0
    """How long the process of a finished run stays for the next one; 0 keeps none."""
    keep_runs_days: float = 30.0
    """Finished runs, their plans and logs are removed after so long; 0 keeps them."""
    keep_audit_days: float = 365.0
    """Entries of the audit log; 0 keeps them, and otherwise `LEAST_AUDIT_DAYS` is the least."""
    keep_arrivals_days: float = 30.0
    """What became of a watched object, after it has gone; 0 keeps it."""
    lost_after_s: float = 30.0
    """A service process that has not been heard of for so long is taken for dead."""
    engine: Literal["inline", "local", "mpi", "ray"] | None = None
    """None: in the run's own process where one is enough and the stores are folders; or "local"."""
    workers: int | None = None
    quota: Quota = Quota()
    job: JobLimits = JobLimits()
    trusted_proxies: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    """Names that a request's Host may have; any where empty."""
    open_metrics: bool = False
    """Whether /metrics answers without a token."""
    certificate: str | None = None
    """PEM file with the chain; with it the port speaks TLS."""
    certificate_key: str | None = None
    oidc: dict[str, Any] | None = None
    watch: tuple[dict[str, Any], ...] = ()
    rules: tuple[dict[str, Any], ...] = ()
    schedules: tuple[dict[str, Any], ...] = ()
    triggers: dict[str, Any] = {}


def read_settings(table: dict[str, Any], **given: Any) -> ServeSettings:
    """The settings in the table [serve], overridden by what was `given` and is not None.

    Raises:
        RequestError: an unknown key, a value of the wrong kind, or no store.
    """
    chosen = table | {key: value for key, value in given.items() if value is not None}
    try:
        settings = msgspec.convert(chosen, ServeSettings)
    except msgspec.ValidationError as error:
        raise RequestError(f"[serve]: {error}") from None
    for name in ("media", "system"):
        if not getattr(settings, name):
            raise RequestError(f"serve needs --{name} URL, or {name} in [serve]")
    if overlap(settings.media, settings.system):
        raise RequestError(
            "users reach the media store and not the system store, so neither may lie within the "
            f"other: media is {settings.media!r} and system {settings.system!r}; give two places"
        )
    _positive(settings)
    return settings


def _positive(settings: ServeSettings) -> None:
    least = {"port": 0, "jobs": 0, "attempts": 1, "keep_warm_s": 0, "retry_after_s": 0,
             "keep_runs_days": 0, "keep_arrivals_days": 0, "lost_after_s": 1}  # fmt: skip
    for name, bound in least.items():
        value = getattr(settings, name)
        if not value >= bound:
            raise RequestError(f"[serve] {name} must be at least {bound}, got {value}")
    days = settings.keep_audit_days
    if not (days == 0 or days >= LEAST_AUDIT_DAYS):
        raise RequestError(
            f"[serve] keep_audit_days must be 0 or at least {LEAST_AUDIT_DAYS}, got {days}"
        )
