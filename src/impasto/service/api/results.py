"""Routes on what a run has left: its target, and its frames' times."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from impasto.errors import Conflict, NotFound
from impasto.keys import from_json, segment_key
from impasto.records import Done, Plan
from impasto.service.api.access import BackendDep, Reader, visible_run
from impasto.service.api.models import ChunkTiming, Timings
from impasto.service.api.problems import documented
from impasto.service.api.runs import RunId
from impasto.stores import Store

router = APIRouter(prefix="/v1/runs", tags=["runs"])

_BLOCK_BYTES = 1 << 20


class _Download(StreamingResponse):
    media_type = "application/octet-stream"


@router.get(
    "/{run_id}/target",
    response_class=_Download,
    summary="Fetch a run's target",
    responses={
        200: {
            "description": "The file's bytes.",
            "content": {_Download.media_type: {"schema": {"type": "string", "format": "binary"}}},
        },
        **documented(404, 409),
    },
)
def fetch_target(run_id: RunId, who: Reader, backend: BackendDep) -> StreamingResponse:
    """The painted video of a run that has succeeded, read from the media store as it is sent."""
    run = visible_run(backend, run_id, who)
    target = (run.report or {}).get("target", run.target)
    if run.state != "succeeded" or not target:
        raise Conflict(f"run {run_id} is {run.state} and has no target")
    media = backend.service.media
    try:
        entry = media.head(target)
    except FileNotFoundError:
        raise NotFound(f"the target of run {run_id} is no longer in the media store") from None
    name = quote(target.rpartition("/")[2], safe="")
    return _Download(
        _blocks(media, target, entry.bytes, entry.etag),
        headers={
            "Content-Length": str(entry.bytes),
            "Content-Disposition": f"attachment; filename*=UTF-8''{name}",  # RFC 6266
        },
    )


def _blocks(media: Store, key: str, size: int, etag: str) -> Iterator[bytes]:
    for start in range(0, size, _BLOCK_BYTES):
        yield media.get_range(key, start, min(start + _BLOCK_BYTES, size), etag=etag)


@router.get("/{run_id}/timings", summary="Show the time of every frame", responses=documented(404))
def show_timings(run_id: RunId, who: Reader, backend: BackendDep) -> Timings:
    """What scoring took, frame by frame, of the chunks that are finished."""
    run = visible_run(backend, run_id, who)
    if run.plan_id is None:
        return Timings(chunks=[])
    system = backend.service.system
    try:
        kept: dict[str, Any] = from_json(system.get(f"runs/{run.plan_id}/timings.json"), dict)
        return Timings.model_validate(kept)
    except FileNotFoundError:
        return Timings(chunks=list(_finished(system, run.plan_id)))


def _finished(system: Store, plan_id: str) -> Iterator[ChunkTiming]:
    """While a run goes on, its segments say it."""
    try:
        plan = from_json(system.get(f"runs/{plan_id}/plan.json"), Plan)
    except FileNotFoundError:
        return
    there = {entry.key for entry in system.list(f"runs/{plan_id}/segments")}
    for chunk in plan.chunks:
        key = f"{segment_key(plan, chunk)}.json"
        if key not in there:
            continue
        try:
            done = from_json(system.get(key), Done)
        except FileNotFoundError:  # the run has ended since
            continue
        yield ChunkTiming(
            chunk=chunk.index, start=chunk.start, worker=done.worker, wall_s=done.wall_s,
            stage_s=done.stage_s, frame_s=list(done.frame_s),
        )  # fmt: skip
