"""What goes by itself, with time: old runs, old entries of the audit log, leftovers of uploads."""

import logging
from datetime import UTC, datetime

from impasto.service.audit import AuditLog
from impasto.service.retention import DAY_S, Retention
from impasto.service.service import Service
from impasto.service.triggers.arrivals import arrivals_table
from impasto.service.triggers.gone import forget_gone

log = logging.getLogger(__name__)

_UPLOADS_S = DAY_S
"""After which what was begun is taken for a dead process's, and how often is looked."""


class Upkeep:
    """Removes what is older than a service keeps it; targets are never touched.

    Args:
        service: its stores, database and settings.
        audit: the audit log.
    """

    def __init__(self, service: Service, audit: AuditLog) -> None:
        self._service = service
        self._audit = audit
        self._settings = service.settings
        self._clock = service.runs.clock
        keep_s = self._settings.keep_runs_days * DAY_S
        self._retention = Retention(service.runs, service.system, keep_s=keep_s)
        self._swept_at = 0.0
        service.database.create(arrivals_table)

    def tidy(self) -> None:
        """Remove what is due.

        Raises:
            RunFailed, RequestError: a store or the database does not answer.
        """
        self._retention.tidy()
        now, settings = self._clock(), self._settings
        if settings.keep_audit_days:
            gone = self._audit.remove(before=now - settings.keep_audit_days * DAY_S)
            if gone:
                log.info("%d old entries of the audit log removed", gone)
        if settings.keep_arrivals_days:
            forget_gone(
                self._service.database,
                self._service.media,
                now=now,
                keep_s=settings.keep_arrivals_days * DAY_S,
            )
        if now - self._swept_at >= _UPLOADS_S:
            self._swept_at = now
            before = datetime.fromtimestamp(now - _UPLOADS_S, UTC)
            self._service.media.sweep_uploads(before)
            self._service.system.sweep(before)
