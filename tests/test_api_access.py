"""Every route × everybody: who is let in is a table here, and a route that is not in it fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import iter_route_contexts

from api_service import MP4, Made, make_service, served
from impasto.service.api.access import Requires
from impasto.service.api.events import events_router
from impasto.service.records import Submission
from impasto.service.roles import ROLES
from impasto.service.triggers.arrivals import Arrivals

LOWEST: dict[tuple[str, str], str | None] = {
    ("GET", "/health"): None,
    ("GET", "/ready"): None,
    ("GET", "/openapi.json"): "viewer",
    ("GET", "/v1/runs"): "viewer",
    ("GET", "/v1/runs/{run_id}"): "viewer",
    ("GET", "/v1/runs/{run_id}/events"): "viewer",
    ("GET", "/v1/runs/{run_id}/logs"): "viewer",
    ("GET", "/v1/runs/{run_id}/report"): "viewer",
    ("GET", "/v1/runs/{run_id}/target"): "viewer",
    ("GET", "/v1/runs/{run_id}/timings"): "viewer",
    ("GET", "/v1/styles"): "viewer",
    ("GET", "/v1/styles/{name}"): "viewer",
    ("POST", "/v1/runs"): "submitter",
    ("POST", "/v1/runs/{run_id}/cancel"): "submitter",
    ("POST", "/v1/runs/{run_id}/retry"): "submitter",
    ("POST", "/v1/uploads"): "submitter",
    ("GET", "/v1/uploads"): "submitter",
    ("DELETE", "/v1/uploads"): "submitter",
    ("POST", "/v1/events"): "submitter",
    ("POST", "/events"): "submitter",
    ("OPTIONS", "/v1/events"): "submitter",
    ("OPTIONS", "/events"): "submitter",
    ("GET", "/metrics"): "operator",
    ("GET", "/v1/nodes"): "operator",
    ("GET", "/v1/audit"): "admin",
    ("GET", "/v1/tokens"): "admin",
    ("POST", "/v1/tokens"): "admin",
    ("DELETE", "/v1/tokens/{token_id}"): "admin",
}
"""Route → the lowest role that is let in; None lets in anybody."""

NAMELESS = ("no token", "revoked", "expired", "another scheme", "junk")
EVERYBODY = (*NAMELESS, *ROLES)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    made = make_service(tmp_path_factory.mktemp("service"))
    service = made.backend.service
    arrivals = Arrivals(service.media, service.runs, service.submit, ())
    made.app.include_router(events_router(arrivals))  # as `serve` has it
    tokens = made.backend.tokens
    revoked, made.tokens["revoked"] = tokens.create("x", "admin", created_by="test")
    tokens.revoke(revoked.id)
    made.tokens["expired"] = tokens.create("x", "admin", created_by="test", lasts_s=1)[1]
    made.clock.now += 2
    return made


@pytest.fixture(scope="module")
def url(made: Made) -> Iterator[str]:
    with served(made.app) as url:
        yield url


@pytest.fixture(scope="module")
def nobody(made: Made, url: str) -> Iterator[httpx.Client]:
    with made.at(url, None) as client:
        yield client


def routes_of(made: Made) -> set[tuple[str, str]]:
    return {
        (method, context.path)
        for context in iter_route_contexts(made.app.routes)
        for method in context.methods or ()
        if context.path
    }


def header_of(made: Made, who: str) -> dict[str, str]:
    if who == "no token":
        return {}
    if who == "another scheme":
        return {"Authorization": f"Basic {made.tokens['admin']}"}
    return {"Authorization": f"Bearer {made.tokens.get(who, 'junk')}"}


def test_every_route_has_its_rule_here(made: Made) -> None:
    assert routes_of(made) == set(LOWEST)


def test_every_route_declares_what_it_asks_for(made: Made) -> None:
    def asks(dependant: Any) -> bool:
        return isinstance(dependant.call, Requires) or any(map(asks, dependant.dependencies))

    open_routes = {
        context.path for context in iter_route_contexts(made.app.routes)
        if not asks(context.dependant)
    }  # fmt: skip
    assert open_routes == {"/health", "/ready"}


@pytest.mark.parametrize("who", EVERYBODY)
@pytest.mark.parametrize("route", LOWEST, ids=" ".join)
def test_nobody_passes_but_who_may(
    made: Made, nobody: httpx.Client, route: tuple[str, str], who: str
) -> None:
    method, template = route
    path = template.format(run_id="0" * 19, token_id="a" * 12, name="starry_night")
    answer = nobody.request(method, path, headers=header_of(made, who))
    lowest = LOWEST[route]
    if lowest is None:
        assert answer.status_code == 200
    elif who in NAMELESS:
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    elif ROLES.index(who) < ROLES.index(lowest):
        assert answer.status_code == 403
    else:
        assert answer.status_code in {200, 400, 404, 422}


def test_one_token_of_two_is_none(made: Made, nobody: httpx.Client) -> None:
    both = [("Authorization", "Bearer junk"), ("Authorization", f"Bearer {made.tokens['admin']}")]
    assert nobody.get("/v1/audit", headers=both).status_code == 401


def test_another_users_run_does_not_exist(tmp_path: Path) -> None:
    made = make_service(tmp_path)
    run, _ = made.backend.service.submit(
        Submission(source="in/a.mp4", style="starry_night", user="alice")
    )
    paths = [
        ("GET", ""), ("GET", "/events"), ("GET", "/logs"), ("GET", "/report"), ("GET", "/target"),
        ("GET", "/timings"), ("POST", "/cancel"), ("POST", "/retry"),
    ]  # fmt: skip
    assert len(paths) == sum("{run_id}" in path for _, path in LOWEST)
    with served(made.app) as url:
        for method, path in paths:
            with made.at(url, "submitter") as bob:
                theirs = bob.request(method, f"/v1/runs/{run.run_id}{path}")
                none = bob.request(method, f"/v1/runs/{'0' * 19}{path}")
            assert theirs.status_code == none.status_code == 404
            assert theirs.json()["detail"].replace(run.run_id, "") == none.json()["detail"].replace(
                "0" * 19, ""
            )
        assert made.runs.get(run.run_id).state == "queued"
        with made.at(url, "submitter") as bob, made.at(url, "operator") as operator:
            assert bob.get("/v1/runs").json()["runs"] == []
            assert bob.get("/v1/runs", params={"user": "alice"}).json()["runs"] == []
            assert len(operator.get("/v1/runs").json()["runs"]) == 1
            assert operator.post(f"/v1/runs/{run.run_id}/cancel").json()["state"] == "cancelled"


def test_a_token_of_the_same_user_sees_that_users_runs(tmp_path: Path) -> None:
    made = make_service(tmp_path)
    made.tokens["dashboard"] = made.backend.tokens.create("submitter", "viewer", created_by="x")[1]
    with served(made.app) as url:
        with made.at(url, "submitter") as client:
            asked = {"source": "in/a.mp4", "style": "starry_night"}
            run_id = client.post("/v1/runs", json=asked).json()["run_id"]
        with made.at(url, "dashboard") as client:
            assert client.get(f"/v1/runs/{run_id}").status_code == 200
            assert client.post(f"/v1/runs/{run_id}/cancel").status_code == 403


def test_an_upload_is_its_users_alone(tmp_path: Path) -> None:
    made = make_service(tmp_path)
    made.tokens["other"] = made.backend.tokens.create("eve", "submitter", created_by="x")[1]
    with served(made.app) as url:
        with made.at(url, "submitter") as client:
            path = client.post("/v1/uploads", params={"name": "a.mp4"}, content=MP4).json()["path"]
            own = client.post("/v1/runs", json={"source": path, "style": "starry_night"})
            assert own.status_code == 202
        with made.at(url, "other") as client:
            assert client.get("/v1/uploads").json() == {"files": []}
            assert client.delete("/v1/uploads", params={"path": path}).status_code == 404
            for asked in (
                {"source": path},
                {"source": path.replace("uploads", "Uploads")},
                {"source": "in/a.mp4", "target": path + ".mkv"},
                {"source": "in/a.mp4", "style": path + ".jpg"},
            ):
                answer = client.post("/v1/runs", json={"style": "starry_night"} | asked)
                assert answer.status_code == 422
                assert "there is no" in answer.json()["detail"]
        with made.at(url, "operator") as client:
            asked = {"source": path, "style": "starry_night"}
            assert client.post("/v1/runs", json=asked).status_code == 202


def test_only_operators_replace_what_all_share(tmp_path: Path) -> None:
    made = make_service(tmp_path)
    asked = {"source": "in/a.mp4", "style": "starry_night", "target": "in/b.mp4",
             "options": {"force": True}}  # fmt: skip
    with served(made.app) as url:
        with made.at(url, "submitter") as client:
            assert client.post("/v1/runs", json=asked).status_code == 403
            own = asked | {"target": "uploads/submitter/b.mp4"}
            assert client.post("/v1/runs", json=own).status_code == 202
        with made.at(url, "operator") as client:
            assert client.post("/v1/runs", json=asked).status_code == 202


def test_metrics_are_open_only_where_that_is_configured(tmp_path: Path) -> None:
    made = make_service(tmp_path, open_metrics=True)
    with made.client(None) as client:
        assert "impasto_queue_depth" in client.get("/metrics").text
