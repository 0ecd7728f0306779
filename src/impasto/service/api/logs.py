"""The route that reads a run's log: what its driver and workers said, then how its process died."""

from datetime import UTC
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
from impasto.stores import Store

router = APIRouter(prefix="/v1/runs", tags=["runs"])

_RUN, _PROCESS = "run/", "process/"
"""What a cursor begins with: places in the run's own log, and among what its processes printed."""

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

    While a run goes on `next` is there on the last page too, for what will follow. What the process
    of an attempt printed before it died comes last.
    """
    run = visible_run(backend, run_id, who)
    system, ended = backend.service.system, run.state not in OPEN
    place = after or _RUN
    lines: list[LogLine] = []
    if place.startswith(_RUN) and run.plan_id is not None:
        found, cursor = logs.read(system, run.plan_id, after=place.removeprefix(_RUN), limit=limit)
        lines, place = [LogLine.of(line) for line in found], f"{_RUN}{cursor}"
    if place.startswith(_RUN) and (len(lines) == limit or not ended):
        return LogPage(lines=_plain(backend, lines), next=place)
    number, line = _numbers(place)
    more, following = _printed(system, run_id, number, line, limit - len(lines))
    return LogPage(lines=_plain(backend, [*lines, *more]), next=following)


def _plain(backend: Backend, lines: list[LogLine]) -> list[LogLine]:
    """The lines with paths as users know them: where the stores are is not their matter."""
    media, system = backend.service.media.url, backend.service.system.url
    for line in lines:
        line.text = line.text.replace(f"{media}/", "").replace(f"{system}/", "")
    return lines


def _numbers(place: str) -> tuple[int, int]:
    if place.startswith(_RUN):
        return 0, 0
    number, line = place.removeprefix(_PROCESS).split(".")
    return int(number), int(line)


def _printed(
    system: Store, run_id: str, number: int, line: int, limit: int
) -> tuple[list[LogLine], str | None]:
    """Lines from line `line` of the printed log `number` on, and the cursor for what follows."""
    found = sorted(system.list(f"service/{run_id}/logs"), key=lambda entry: entry.key)
    lines: list[LogLine] = []
    while number < len(found):
        entry = found[number]
        at = entry.modified.astimezone(UTC).isoformat(timespec="milliseconds")
        try:
            texts = system.get(entry.key).decode(errors="replace").splitlines()
        except FileNotFoundError:  # removed with an old run
            texts = []
        taken = texts[line : line + limit - len(lines)]
        lines += [LogLine(time=at, text=text, stage="process", printed=True) for text in taken]
        line += len(taken)
        if line < len(texts):
            return lines, f"{_PROCESS}{number}.{line}"
        number, line = number + 1, 0
    return lines, None
