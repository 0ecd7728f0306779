"""The route that reads a run's log: what its driver and workers said, and how its process died."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from impasto.observe import logs
from impasto.service.api.access import BackendDep, Reader, visible_run
from impasto.service.api.backend import Backend
from impasto.service.api.forms import LOG_CURSOR
from impasto.service.api.models import Absent, LogLine, LogPage
from impasto.service.api.problems import documented
from impasto.service.api.runs import RunId
from impasto.service.records import OPEN

router = APIRouter(prefix="/v1/runs", tags=["runs"])

_RUN = "run/"
"""What a cursor begins with, so that none is empty."""

Cursor = Annotated[str, Field(pattern=LOG_CURSOR)]


@router.get("/{run_id}/logs", summary="Read a run's log", responses=documented(404))
def read_log(
    run_id: RunId,
    who: Reader,
    backend: BackendDep,
    after: Annotated[Cursor | Absent, Query(description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> LogPage:
    """What the run's driver and workers said and printed, with the time of each chunk.

    While a run goes on `next` is there on the last page too, for what will follow. What a process
    printed before it died is part of it.
    """
    run = visible_run(backend, run_id, who)
    found, cursor = logs.read(
        backend.service.system,
        run_id,
        plan_id=run.plan_id,
        after=(after or _RUN).removeprefix(_RUN),
        limit=limit,
    )
    whole = run.state not in OPEN and len(found) < limit
    lines = [LogLine.of(line) for line in found]
    return LogPage(lines=_plain(backend, lines), next=None if whole else f"{_RUN}{cursor}")


def _plain(backend: Backend, lines: list[LogLine]) -> list[LogLine]:
    """The lines with paths as users know them: where the stores are is not their matter."""
    media, system = backend.service.media.url, backend.service.system.url
    for line in lines:
        line.text = line.text.replace(f"{media}/", "").replace(f"{system}/", "")
    return lines
