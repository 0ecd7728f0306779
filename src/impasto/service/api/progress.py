"""The route that tells a run's progress live, by server-sent events."""

from collections.abc import AsyncGenerator, AsyncIterable
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from impasto.service.api.access import BackendDep, Reader, visible_run
from impasto.service.api.followers import Followers
from impasto.service.api.models import Absent, Number
from impasto.service.api.places import Places
from impasto.service.api.problems import documented
from impasto.service.api.runs import RunId

router = APIRouter(prefix="/v1/runs", tags=["runs"])


def _visible(run_id: RunId, who: Reader, backend: BackendDep) -> str:
    """Looked at before the stream begins, while an error can still be a status."""
    return visible_run(backend, run_id, who).run_id


async def _place(request: Request, who: Reader) -> AsyncGenerator[None]:
    """Held until the stream ends."""
    streams: Places = request.app.state.streams
    with streams.take(who.user):
        yield


@router.get(
    "/{run_id}/events",
    response_class=EventSourceResponse,
    summary="Follow a run",
    responses=documented(404, 429),
    dependencies=[Depends(_place)],
)
async def follow_run(
    run_id: Annotated[str, Depends(_visible)],
    request: Request,
    last_event_id: Annotated[
        Number | Absent,
        Header(
            alias="Last-Event-ID",
            description="Id of the last event seen; the stream goes on from there.",
        ),
    ] = None,
) -> AsyncIterable[ServerSentEvent]:
    """What happens to a run, from its beginning on, as `text/event-stream`.

    The stream ends with the run. `event` is the kind: state, stage, plan, chunk, note, attempt or
    progress; `data` is JSON, with `at`, the moment in seconds since the epoch. Where nothing
    happens a comment comes every 15 seconds.
    """
    followers: Followers = request.state.followers
    async for event in followers.follow(run_id, after=int(last_event_id or 0)):
        yield ServerSentEvent(
            data={"at": event.at, **event.data}, event=event.kind, id=str(event.id)
        )
