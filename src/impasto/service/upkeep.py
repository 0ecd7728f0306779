"""What goes by itself, with time: old runs, old entries of the audit log, leftovers of uploads."""

import logging
import threading
from datetime import UTC, datetime

from impasto.errors import ImpastoError
from impasto.service.audit import AuditLog
from impasto.service.retention import DAY_S, Retention
from impasto.service.service import Service
from impasto.service.triggers.arrivals import arrivals_table
from impasto.service.triggers.gone import forget_gone

log = logging.getLogger(__name__)

_UPLOADS_S = DAY_S
"""After which what was begun is taken for a dead process's, and how often is looked."""
_STOP_S = 5.0
"""That a stop waits for what is being removed."""


class Upkeep:
    """Removes what is older than a service keeps it; targets are never touched.

    From `start` to `stop` it does so in a thread of its own: in an object store it can take
    minutes, and runs are to be handed out meanwhile.

    Args:
        service: its stores, database and settings.
        audit: the audit log.
        every_s: how often it looks.
    """

    def __init__(self, service: Service, audit: AuditLog, *, every_s: float = 600.0) -> None:
        self._service = service
        self._audit = audit
        self._settings = service.settings
        self._clock = service.runs.clock
        keep_s = self._settings.keep_runs_days * DAY_S
        self._retention = Retention(service.runs, service.system, keep_s=keep_s)
        self._swept_at = 0.0
        self._every_s = every_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="impasto-upkeep", daemon=True)
        service.database.create(arrivals_table)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End soon: what is not removed by then the next look removes, or `runs clean`."""
        self._stopping.set()
        self._thread.join(_STOP_S)

    def _run(self) -> None:
        fault = ""
        while not self._stopping.wait(self._every_s):
            try:
                self.tidy()
                fault = ""
            except ImpastoError as error:
                if str(error) != fault:
                    log.warning("nothing old is removed for now: %s", error)
                fault = str(error)
            except Exception:
                log.exception("the upkeep goes on after a surprise")

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
