"""The thread that hands out runs: takes turns from the queue, minds the processes."""

import logging
import threading
import time
from collections.abc import Callable

from impasto.errors import ImpastoError
from impasto.service.jobs import Jobs
from impasto.service.queue import Handed, Queue
from impasto.service.workflow import Workflows

log = logging.getLogger(__name__)

_TICK_S = 0.25
_BEATS = 6
"""Of a process, before others take it for dead."""


class Dispatcher:
    """Hands out runs from `start` to `stop`.

    Args:
        queue: of this process.
        jobs: the processes of runs.
        workflows: what carries them out.
        slots: runs at a time.
        lost_after_s: how long a process may be silent before it is taken for dead.
        on_lost: is called when others have taken this process for dead, and its runs are theirs.
    """

    def __init__(
        self,
        queue: Queue,
        jobs: Jobs,
        workflows: Workflows,
        *,
        slots: int,
        lost_after_s: float,
        on_lost: Callable[[], None],
    ) -> None:
        self._queue = queue
        self._jobs = jobs
        self._workflows = workflows
        self._slots = slots
        self._lost_after_s = lost_after_s
        self._on_lost = on_lost
        self._woken = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="impasto-dispatch", daemon=True)
        self.fault: str | None = None
        """Why nothing is handed out now; None when all is well."""

    def start(self, *, alone: bool) -> None:
        """Take over what dead processes had, and begin.

        Args:
            alone: no other process can be using this database, so every other one is dead.
        """
        self._queue.join()
        self._adopt(alone=alone)
        self._thread.start()

    def stop(self) -> None:
        """Hand out nothing more."""
        self._stopping = True
        self.wake()
        self._thread.join()

    def wake(self) -> None:
        """Look for a run to hand out now: one has ended."""
        self._woken.set()

    def _run(self) -> None:
        beaten = time.monotonic()
        while True:
            self._woken.wait(_TICK_S)
            self._woken.clear()
            if self._stopping:
                return
            now = time.monotonic()
            try:
                self._hand_out()
                if now - beaten >= self._lost_after_s / _BEATS:
                    beaten = now
                    self._mind()
                self.fault = None
            except ImpastoError as error:
                self._complain(str(error))
            except Exception as error:
                self._complain(f"{type(error).__name__}: {error}")
                log.exception("the dispatcher goes on after a surprise")

    def _complain(self, fault: str) -> None:
        if fault != self.fault:
            log.error("nothing is handed out for now: %s", fault)
        self.fault = fault

    def _hand_out(self) -> None:
        self._jobs.tick()
        for run_id in self._queue.cancelling() & self._jobs.running:
            self._jobs.stop(run_id)
        for handed in self._queue.take(self._slots):
            self._workflows.start(handed)

    def _mind(self) -> None:
        """Say that this process lives, look who does not, and see that each run is carried out."""
        if not self._queue.beat():
            log.error("this process was silent for too long, and others have taken its runs over")
            self._on_lost()
            return
        self._adopt()
        for handed in self._queue.owned():
            self._see_to(handed)
        while self._workflows.forget():
            pass

    def _adopt(self, *, alone: bool = False) -> None:
        for handed in self._queue.adopt(alone=alone):
            log.info("run %s is carried on", handed.run_id)
            if self._workflows.state(handed) == "PENDING":
                self._workflows.resume(handed)
            else:
                self._see_to(handed)

    def _see_to(self, handed: Handed) -> None:
        """Start a run whose workflow was never begun, or release one whose workflow broke off."""
        match self._workflows.state(handed):
            case None:
                self._workflows.start(handed)
            case "ENQUEUED" | "PENDING" | "DELAYED":
                return
            case state:
                if self._queue.release(handed):
                    log.warning(
                        "run %s: its workflow is %s; it is queued again", handed.run_id, state
                    )
