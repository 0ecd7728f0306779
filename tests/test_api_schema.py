"""The API does what its OpenAPI document says: schemathesis asks a running one."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis.core.result import Err
from schemathesis.generation import GenerationMode

from api_service import Made, make_service, served
from impasto.service.limits import Quota
from impasto.service.records import Submission
from impasto.service.runs import change, record


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    quota = Quota(submissions_per_minute=1e6, burst=10**6)
    return make_service(tmp_path_factory.mktemp("service"), quota=quota)


@pytest.fixture(scope="module")
def url(made: Made) -> Iterator[str]:
    with served(made.app) as url:
        yield url


@pytest.fixture(scope="module")
def finished(made: Made) -> str:
    """A run that has succeeded."""
    run, _ = made.runs.submit(Submission(source="in/a.mp4", style="starry_night", user="admin"))
    with made.runs.database.transaction() as connection:
        change(connection, run.run_id, state="succeeded", report={"frames": 9}, target="in/a.mp4")
        record(connection, run.run_id, made.clock(), "state", {"state": "succeeded"})
    return run.run_id


CONFIG = """
[auth.openapi.bearer]
bearer = "{token}"

[[operations]]
include-name = "POST /v1/runs"
checks.positive_data_acceptance.expected-statuses = [202, 409, 422]  # no schema says what is there

[[operations]]
include-name = "POST /v1/uploads"
checks.positive_data_acceptance.expected-statuses = [200, 201, 415]  # likewise what is no video

[[operations]]
include-name = "GET /v1/runs/{{run_id}}/target"  # nor how long a file is
checks.positive_data_acceptance.expected-statuses = [200, 206, 404, 409, 416]
"""


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_schemathesis_finds_nothing(made: Made, url: str, mode: GenerationMode) -> None:
    for operation in _operations(made, url):
        with contextlib.suppress(hypothesis.errors.Unsatisfiable):  # where nothing can be wrong
            _ask(operation.as_strategy(generation_mode=mode))


def test_schemathesis_finds_nothing_about_a_run_that_is_there(
    made: Made, url: str, finished: str
) -> None:
    for operation in _operations(made, url):
        if "{run_id}" in operation.path:
            _ask(operation.as_strategy(), run_id=finished)


def _operations(made: Made, url: str) -> Iterator[Any]:
    config = schemathesis.Config.from_str(CONFIG.format(token=made.tokens["admin"]))
    document = json.loads(json.dumps(made.app.openapi()))
    schema = schemathesis.openapi.from_dict(document, config=config)
    schema.config.update(base_url=url)
    for found in schema.get_all_operations():
        assert not isinstance(found, Err)
        yield found.ok()


def _ask(cases: Any, **path_parameters: str) -> None:
    @hypothesis.given(case=cases)
    @hypothesis.settings(
        max_examples=10, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    def asked(case: Any) -> None:
        case.path_parameters.update(path_parameters)
        case.call_and_validate(timeout=20)

    asked()
