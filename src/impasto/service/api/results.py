"""Routes on what a run has left: its target, and its frames' times."""

import re
from collections.abc import Iterator
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Header
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException

from impasto.errors import Conflict, NotFound
from impasto.keys import from_json, segment_key
from impasto.records import Done, Plan
from impasto.service.api.access import BackendDep, Reader, visible_run
from impasto.service.api.models import Absent, ChunkTiming, Timings
from impasto.service.api.problems import documented
from impasto.service.api.runs import RunId
from impasto.stores import Store

router = APIRouter(prefix="/v1/runs", tags=["runs"])

_BLOCK_BYTES = 1 << 20


_RANGE = re.compile(r"bytes=(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))", re.IGNORECASE)


class _Download(StreamingResponse):
    media_type = "application/octet-stream"


_BYTES = {_Download.media_type: {"schema": {"type": "string", "format": "binary"}}}


@router.get(
    "/{run_id}/target",
    response_class=_Download,
    summary="Fetch a run's target",
    responses={
        200: {"description": "The file's bytes.", "content": _BYTES},
        206: {"description": "The bytes that were asked for.", "content": _BYTES},
        **documented(404, 409, 416),
    },
)
def fetch_target(
    run_id: RunId,
    who: Reader,
    backend: BackendDep,
    wanted: Annotated[
        str | Absent,
        Header(
            alias="Range",
            description="One range, as `bytes=0-99`, `bytes=100-` or `bytes=-100`; of more than "
            "one, or in another unit, the whole file comes.",
        ),
    ] = None,
    if_range: Annotated[
        str | Absent,
        Header(alias="If-Range", description="The `ETag` that the rest must belong to."),
    ] = None,
) -> StreamingResponse:
    """The painted video of a run that has succeeded, read from the media store as it is sent.

    A part of it is asked for as players and interrupted downloads do, by `Range`.
    """
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
    tag = '"{}"'.format(entry.etag.strip('"'))  # a folder's have no quotes
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Disposition": f"attachment; filename*=UTF-8''{name}",  # RFC 6266
        "ETag": tag,
    }
    part = _part(wanted, entry.bytes) if if_range in {None, tag} else None
    start, stop = part or (0, entry.bytes)
    headers["Content-Length"] = str(stop - start)
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{entry.bytes}"
    blocks = _blocks(media, target, start, stop, entry.etag)
    return _Download(blocks, 200 if part is None else 206, headers)


def _part(wanted: str | None, size: int) -> tuple[int, int] | None:
    """[start, stop) of the bytes that a Range header names; None where it names none that we serve.

    RFC 9110, 14.2: what is malformed, in another unit or more than one range may be ignored.

    Raises:
        HTTPException: 416, the file ends before the range begins.
    """
    if (found := _RANGE.fullmatch((wanted or "").strip())) is None:
        return None
    first, last, suffix = found.groups()
    if suffix is not None:
        start, stop = max(0, size - int(suffix)), size
    else:
        start, stop = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return None
    if start >= size:
        there = {"Content-Range": f"bytes */{size}"}
        raise HTTPException(416, f"the target has {size} bytes, got Range: {wanted}", there)
    return start, stop


def _blocks(media: Store, key: str, start: int, stop: int, etag: str) -> Iterator[bytes]:
    for at in range(start, stop, _BLOCK_BYTES):
        yield media.get_range(key, at, min(at + _BLOCK_BYTES, stop), etag=etag)


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
