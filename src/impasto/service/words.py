"""Ways out of an error, over HTTP."""

from impasto.errors import ImpastoError, Kind

WAYS: dict[Kind, str] = {
    "overwrite": '"force": true in "options" overwrites it',
    "retarget": '"target" names another',
    "target": "the target {about!r} would do",
    "resume": "POST /v1/runs/{{run_id}}/retry goes on from there",
    "restart": "",  # the service's to decide, as is the next one
    "stop": "",
    "logs": "see GET /v1/runs/{{run_id}}/logs",
    "styles": "see GET /v1/styles",
}


def in_api_words(error: BaseException) -> str:
    """One line of what went wrong, for users of the service."""
    return error.worded(WAYS) if isinstance(error, ImpastoError) else str(error)
