"""Routes on runs: submit, list, one run, cancel, retry, report."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response
from pydantic import Field
from sqlalchemy import Connection

from impasto.errors import Conflict
from impasto.service.api.access import BackendDep, Controller, Reader, Submitter, visible_run
from impasto.service.api.accounts import entry_of
from impasto.service.api.forms import KEY, RUN_ID
from impasto.service.api.models import Absent, Accepted, Number, Run, RunBrief, RunPage, RunRequest
from impasto.service.api.paths import check_reach, check_replace
from impasto.service.api.problems import documented
from impasto.service.records import RunState, ServiceRun, Submission
from impasto.service.roles import Permission

router = APIRouter(prefix="/v1/runs", tags=["runs"])

_ACCEPTED = 202

RunId = Annotated[
    str,
    Path(pattern=RUN_ID, description="As the submission's answer had it.",
         examples=["0199a2b3c4d5e6f7"]),
]  # fmt: skip
IdempotencyKey = Annotated[
    Annotated[str, Field(pattern=KEY)] | Absent,
    Header(alias="Idempotency-Key",
           description="Of your own making, a UUID say: the same key again gives the same run."),
]  # fmt: skip


@router.post(
    "",
    status_code=_ACCEPTED,
    response_model=Accepted,
    summary="Ask for a run",
    responses={
        202: {"headers": {"Location": {"schema": {"type": "string"}, "description": "The run."}}},
        **documented(403, 409, 413, 415, 429),
    },
)
def submit_run(
    asked: RunRequest,
    who: Submitter,
    backend: BackendDep,
    response: Response,
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Any:
    """Queue a run of a source in the media store.

    It is durable when the answer comes. With an `Idempotency-Key` a repeated request returns the
    run that the first one made; the same key with another body is refused with 422, as
    draft-ietf-httpapi-idempotency-key-header has it. A target that is there is refused with 409,
    now where it is named, and else when the run comes to it.
    """
    for path in (asked.source, asked.target, asked.model, asked.style):
        if isinstance(path, str):  # a style's name is no path of anybody's
            check_reach(path, who)
    if asked.options.force:
        check_replace(asked.target or asked.source, who)
    submission = Submission(
        source=asked.source,
        style=asked.style,
        model=asked.model,
        target=asked.target,
        options=asked.options.model_dump(exclude_unset=True),
        user=who.user,
        priority=asked.priority,
        idempotency_key=idempotency_key,
    )

    def audit(connection: Connection, run: ServiceRun) -> None:
        request.state.subject = run.run_id
        backend.audit.add(connection, entry_of(request.scope, _ACCEPTED))

    run, _ = backend.service.submit(submission, also=audit)
    request.state.audited = _ACCEPTED
    response.headers["Location"] = f"/v1/runs/{run.run_id}"
    return Accepted(run_id=run.run_id, state=run.state)


@router.get("", summary="List runs")
def list_runs(
    who: Reader,
    backend: BackendDep,
    *,
    state: RunState | Absent = None,
    style: Annotated[str | Absent, Query(max_length=1024)] = None,
    source: Annotated[
        str | Absent, Query(max_length=1024, description="The beginning of the source's path.")
    ] = None,
    user: Annotated[
        str | Absent, Query(max_length=256, description="Whose; operators alone see others' runs.")
    ] = None,
    after: Annotated[Number | Absent, Query(description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> RunPage:
    """Your own runs, the latest first; operators see everybody's."""
    if not who.may(Permission.RUNS_OF_ALL):
        if user not in {None, who.user}:
            return RunPage(runs=[], next=None)
        user = who.user
    page = backend.service.runs.page(
        user=user, state=state, style=style, source=source, after=after, limit=limit
    )
    return RunPage(runs=[RunBrief.of(run) for run in page.runs], next=page.next)


@router.get("/{run_id}", summary="Show a run", responses=documented(404))
def show_run(run_id: RunId, who: Reader, backend: BackendDep) -> Run:
    """One run: its state, how far it is, and when it has succeeded its report."""
    return Run.of(visible_run(backend, run_id, who))


@router.get("/{run_id}/report", summary="Show a run's report", responses=documented(404, 409))
def show_report(run_id: RunId, who: Reader, backend: BackendDep) -> dict[str, Any]:
    """The report of a run that has succeeded, as `impasto stylize --json` prints it."""
    run = visible_run(backend, run_id, who)
    if run.report is None:
        raise Conflict(f"run {run_id} is {run.state} and has no report")
    return run.report


@router.post("/{run_id}/cancel", summary="Cancel a run", responses=documented(404, 409))
def cancel_run(run_id: RunId, who: Controller, backend: BackendDep) -> Run:
    """End a run: at once while it waits, and at the next safe moment while it runs."""
    visible_run(backend, run_id, who)
    return Run.of(backend.service.runs.cancel(run_id))


@router.post("/{run_id}/retry", summary="Retry a run", responses=documented(404, 409, 429))
def retry_run(run_id: RunId, who: Controller, backend: BackendDep) -> Run:
    """Queue a run again that failed, was set aside or cancelled; what is done is kept.

    It counts as a submission of its user.
    """
    visible_run(backend, run_id, who)
    return Run.of(backend.service.runs.retry(run_id))
