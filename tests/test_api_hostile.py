"""What a stranger may try on the web part, each with what comes of it."""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
import json
import logging
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from api_service import MP4, Made, make_service, served
from impasto.client import Server
from impasto.errors import RequestError, RunFailed
from impasto.service.api import configure, edge, uploads
from impasto.service.api.paths import home_of
from impasto.service.api.server import Protocol
from impasto.service.limits import Quota
from served import wait_for

ASKED = {"source": "in/a.mp4", "style": "starry_night"}
UPLOAD_BYTES = 300_000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    quota = Quota(upload_bytes=UPLOAD_BYTES, stored_upload_bytes=2 * UPLOAD_BYTES)
    return make_service(tmp_path_factory.mktemp("service"), quota=quota)


@pytest.fixture(scope="module")
def url(made: Made) -> Iterator[str]:
    with served(made.app) as url:
        yield url


@pytest.fixture
def client(made: Made, url: str) -> Iterator[httpx.Client]:
    with made.at(url, "submitter") as client:
        yield client


def raw(url: str, *parts: bytes, wait_s: float = 10) -> bytes:
    """What the server says to these bytes, until it closes or says nothing more."""
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port or 80), timeout=wait_s) as connection:
        said = b""
        try:
            for part in parts:
                connection.sendall(part)
            while got := connection.recv(65536):
                said += got
        except (TimeoutError, ConnectionResetError, BrokenPipeError):
            pass
        return said


def head(made: Made, path: str, *more: str, method: str = "POST", who: str = "submitter") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {made.tokens[who]}",
             "Connection: close", *more, "", ""]  # fmt: skip
    return "\r\n".join(lines).encode()


def uploaded(made: Made, user: str = "submitter") -> list[str]:
    media = made.backend.service.media
    return sorted(entry.key for entry in media.list(home_of(user).rstrip("/")))


# --- sizes and slowness


@pytest.mark.parametrize(("path", "limit"), [
    ("/v1/runs", edge.BODY_BYTES), ("/v1/uploads?name=a.mp4", UPLOAD_BYTES),
])  # fmt: skip
def test_a_body_that_is_announced_too_large_is_refused_before_it_is_read(
    made: Made, url: str, path: str, limit: int
) -> None:
    said = raw(url, head(made, path, "Content-Type: application/json",
                         f"Content-Length: {limit + 1}"))  # fmt: skip
    assert said.startswith(b"HTTP/1.1 413")
    assert b"application/problem+json" in said


@pytest.mark.parametrize(("path", "limit"), [
    ("/v1/runs", edge.BODY_BYTES), ("/v1/uploads?name=a.mp4", UPLOAD_BYTES),
])  # fmt: skip
def test_a_chunked_body_is_cut_off_at_the_limit(
    client: httpx.Client, made: Made, path: str, limit: int
) -> None:
    taken = 0

    def body() -> Iterator[bytes]:
        nonlocal taken
        yield MP4
        for _ in range(limit // 10_000 + 3):
            taken += 10_000
            yield bytes(10_000)

    before = uploaded(made)
    answer = client.post(path, content=body(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert uploaded(made) == before


@pytest.mark.parametrize("length", ["-1", "1e3", "9" * 5000, "1, 2", "0x10"])
def test_a_length_that_is_none_is_refused(made: Made, url: str, length: str) -> None:
    said = raw(url, head(made, "/v1/runs", f"Content-Length: {length}"))
    assert said.split()[1] in {b"400", b"413"}


def test_a_request_may_not_be_read_in_two_ways(made: Made, url: str) -> None:
    smuggled = head(made, "/v1/runs", "Content-Length: 4", "Transfer-Encoding: chunked")
    said = raw(url, smuggled, b"0\r\n\r\nGET /v1/audit HTTP/1.1\r\n\r\n")
    assert said.count(b"HTTP/1.1 ") == 1
    assert b"HTTP/1.1 2" not in said


def test_a_head_of_any_length_is_not_collected(made: Made, url: str) -> None:
    said = raw(url, head(made, "/v1/runs", "X: " + "a" * (4 << 20), method="GET"))
    assert not said or said.split()[1] in {b"400", b"431"}


def test_a_head_that_trickles_is_given_up(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Protocol, "head_s", 0.3)
    whole, part = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /health HTTP/1.1\r\nHo"
    with served(made.app) as url:
        assert raw(url, part) == b""
        assert raw(url) == b""
        place = urlsplit(url)
        with socket.create_connection((place.hostname, place.port or 80), timeout=10) as second:
            second.sendall(whole)
            assert second.recv(65536).startswith(b"HTTP/1.1 200")
            second.sendall(part)  # the next request on the same connection
            rest = b""
            while got := second.recv(65536):
                rest += got
            assert b"HTTP/1.1" not in rest


def test_a_body_that_trickles_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "SILENCE_S", 0.2)
    made = make_service(tmp_path)
    with served(made.app) as url:
        for path in ("/v1/runs", "/v1/uploads?name=a.mp4"):
            said = raw(url, head(made, path, "Content-Type: application/json",
                                 "Content-Length: 100"), b'{"so')  # fmt: skip
            assert said.startswith(b"HTTP/1.1 408"), said
        assert uploaded(made) == []


# --- JSON

JSON = {
    "deep": b"[" * 200_000,
    "deep objects": b'{"a":' * 200_000,
    "a number of many digits": b'{"priority": ' + b"9" * 9000 + b"}",
    "infinity": b'{"source": "in/a.mp4", "style": {"starry_night": 1e999}}',
    "not a number": b'{"source": "in/a.mp4", "style": {"starry_night": NaN}}',
    "half a surrogate": b'{"source": "in/\\ud800.mp4", "style": "starry_night"}',
    "NUL": b'{"source": "in/\\u0000.mp4", "style": "starry_night"}',
    "no UTF-8": b'{"source": "in/\xff.mp4"}',
    "nothing": b"",
    "a list": b"[]",
    "text": b'"x"',
    "many unknown fields": json.dumps({f"f{n}": n for n in range(5000)}).encode(),
    "a field name of any length": json.dumps({"x" * 100_000: 1}).encode(),
}  # fmt: skip


@pytest.mark.parametrize("what", JSON)
def test_json_of_any_kind_is_a_short_problem(client: httpx.Client, what: str) -> None:
    headers = {"Content-Type": "application/json"}
    answer = client.post("/v1/runs", content=JSON[what], headers=headers)
    assert answer.status_code in {400, 422}
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert len(answer.content) < 8000


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/xml", "multipart/form-data; boundary=x",
     "application/x-www-form-urlencoded"],
)  # fmt: skip
def test_what_is_no_json_is_not_taken_for_it(client: httpx.Client, kind: str) -> None:
    answer = client.post("/v1/runs", content=json.dumps(ASKED), headers={"Content-Type": kind})
    assert answer.status_code == 415
    untyped = client.build_request("POST", "/v1/runs", content=json.dumps(ASKED))
    assert "Content-Type" not in untyped.headers
    assert client.send(untyped).status_code == 422


# --- paths

PATHS = [
    "../in/a.mp4", "in/../../etc/passwd", "/etc/passwd", "in//a.mp4", "in/./a.mp4", "in/a.mp4/",
    "..", ".", "", "in\\..\\a.mp4", "in/a\x00.mp4", "in/a\n.mp4", "in/\x1b[2J.mp4", "in/\u2028.mp4",
    "file:///etc/passwd", "http://169.254.169.254/latest/meta-data", "s3://other/in/a.mp4",
    "az://system/runs/x", "concat:in/a.mp4", "in/.hidden/a.mp4", "a" * 1025,
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS, ids=ascii)
@pytest.mark.parametrize("field", ["source", "target", "model"])
def test_paths_stay_within_the_media_store(client: httpx.Client, field: str, path: str) -> None:
    asked = ASKED | {field: path}
    if field == "model":
        asked.pop("style")
    answer = client.post("/v1/runs", json=asked)
    if path == "concat:in/a.mp4" and field == "target":
        assert answer.status_code == 202  # a strange name, and nothing but a name
    else:
        assert answer.status_code == 422


def test_an_encoded_path_is_a_name_and_not_decoded(client: httpx.Client, made: Made) -> None:
    for path in ("in/%2e%2e/%2e%2e/etc/passwd", "%2fetc%2fpasswd", "in/a.mp4%00"):
        answer = client.post("/v1/runs", json=ASKED | {"source": path})
        assert answer.status_code == 422
        assert "there is no" in answer.json()["detail"]
    answer = client.get("/v1/runs/..%2f..%2fetc%2fpasswd")
    assert answer.status_code in {404, 422}
    assert client.get("/v1/styles/..%2f..%2fcard.json").status_code in {404, 422}


@pytest.mark.parametrize("name", ["../a.mp4", "a/b.mp4", "..", ".a.mp4", "a\\b.mp4", "a\0.mp4",
                                  "a\r\nX: y.mp4", "", "a" * 101, "%2e%2e%2fa.mp4", "ä.mp4"],
                         ids=ascii)  # fmt: skip
def test_a_name_of_an_upload_is_no_path(client: httpx.Client, made: Made, name: str) -> None:
    before = uploaded(made)
    assert client.post("/v1/uploads", params={"name": name}, content=MP4).status_code == 422
    assert uploaded(made) == before


def test_users_with_any_name_have_a_place_of_their_own() -> None:
    names = ["alice", "Alice", "alice ", "..", "oidc:a/b", "oidc:a%2fb", "a" * 200, "~x", "ALICE"]
    homes = [home_of(name) for name in names]
    assert len({home.casefold() for home in homes}) == len(names)
    for home in homes:
        assert home.startswith("uploads/")
        assert home.count("/") == 2
        assert ".." not in home


# --- uploads


def test_an_upload_is_what_its_content_says(client: httpx.Client, made: Made) -> None:
    answer = client.post("/v1/uploads", params={"name": "holiday.txt"}, content=MP4)
    assert answer.status_code == 201
    body = answer.json()
    assert body["type"] == "video/mp4"
    assert body["bytes"] == len(MP4)
    assert body["sha256"] == hashlib.sha256(MP4).hexdigest()
    assert made.backend.service.media.get(body["path"]) == MP4
    again = client.post("/v1/uploads", params={"name": "holiday.txt"}, content=MP4)
    assert (again.status_code, again.json()) == (200, body)


NOT_MEDIA = {
    "nothing": b"",
    "a script": b"#!/bin/sh\nrm -rf /\n" * 100,
    "a playlist": b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n",
    "a concat list": b"ffconcat version 1.0\nfile /etc/passwd\n",
    "HTML": b"<!doctype html><script>alert(1)</script>",
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "a program": b"\x7fELF\x02\x01\x01" + bytes(200),
    "a zip": b"PK\x03\x04" + bytes(200),
    "sound": b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(200),
    "text with a G": b"G" + bytes(500),
}


@pytest.mark.parametrize("what", NOT_MEDIA)
def test_what_is_no_video_or_picture_is_not_kept(
    client: httpx.Client, made: Made, what: str
) -> None:
    before = uploaded(made)
    headers = {"Content-Type": "video/mp4"}
    answer = client.post("/v1/uploads", params={"name": "a.mp4"}, content=NOT_MEDIA[what],
                         headers=headers)  # fmt: skip
    assert answer.status_code == 415
    assert uploaded(made) == before


@pytest.mark.parametrize(
    ("begin", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        (b"RIFF\0\0\0\0AVI LIST", "video/x-msvideo"),
        (b"\0\0\0\x14ftypqt  ", "video/quicktime"),
        (b"\x1aE\xdf\xa3\x9fB\x82\x84webm", "video/webm"),
        (b"\x1aE\xdf\xa3\xa3B\x82\x88matroska", "video/x-matroska"),
        ((b"G" + bytes(187)) * 4, "video/mp2t"),
    ],
)
def test_each_kind_that_the_probe_opens_is_known(begin: bytes, kind: str) -> None:
    assert uploads.media_type(begin + bytes(400)) == kind


def test_real_files_of_each_container_are_known(media: object, tmp_path: Path) -> None:
    path: Path = media("cfr_24")  # type: ignore[operator]
    assert uploads.media_type(path.read_bytes()[:1024]).startswith("video/")


def test_a_connection_that_breaks_leaves_nothing(made: Made, url: str) -> None:
    before = uploaded(made)
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port or 80)) as connection:
        connection.sendall(head(made, "/v1/uploads?name=b.mp4", "Content-Length: 1000") + MP4)
    assert httpx.get(f"{url}/health").status_code == 200
    assert uploaded(made) == before


def test_uploads_of_one_user_have_a_limit_together(made: Made, url: str) -> None:
    made.tokens["hoarder"] = made.backend.tokens.create("hoarder", "submitter", created_by="x")[1]
    with made.at(url, "hoarder") as client:
        codes = [
            client.post("/v1/uploads", params={"name": f"{n}.mp4"},
                        content=MP4 + bytes(UPLOAD_BYTES - 1000 - n)).status_code
            for n in range(3)
        ]  # fmt: skip
        assert codes == [201, 201, 413]
        files = client.get("/v1/uploads").json()["files"]
        assert [file["path"] for file in files] == uploaded(made, "hoarder")
        for path in ("in/a.mp4", "uploads/hoarder/../../in/a.mp4", "uploads/hoarder/x"):
            assert client.delete("/v1/uploads", params={"path": path}).status_code in {404, 422}
        removed = client.delete("/v1/uploads", params={"path": files[0]["path"]})
        assert removed.status_code == 204
        again = client.post("/v1/uploads", params={"name": "2.mp4"},
                            content=MP4 + bytes(UPLOAD_BYTES - 1000 - 2))  # fmt: skip
        assert again.status_code == 201
    assert made.backend.service.media.exists("in/a.mp4")


@contextmanager
def begun(made: Made, url: str, length: int) -> Iterator[socket.socket]:
    """An upload of that length by the submitter, of which the beginning has arrived."""
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port or 80), timeout=20) as connection:
        connection.sendall(head(made, "/v1/uploads?name=b.mp4", f"Content-Length: {length}") + MP4)
        yield connection


def test_uploads_under_way_are_counted_for_each_user(tmp_path: Path) -> None:
    made = make_service(tmp_path, quota=Quota(uploads=2))
    with served(made.app) as url, made.at(url, "submitter") as client:
        with begun(made, url, 1000), begun(made, url, 1000):
            wait_for(lambda: made.app.state.uploads.bytes_of("submitter") == 2000)
            refused = client.post("/v1/uploads", params={"name": "a.mp4"}, content=MP4)
            assert refused.status_code == 429
            assert refused.headers["Retry-After"] == "5"
            assert "2 of your uploads are under way" in refused.json()["detail"]
            with made.at(url, "operator") as other:
                taken = other.post("/v1/uploads", params={"name": "a.mp4"}, content=MP4)
                assert taken.status_code == 201
        wait_for(lambda: not made.app.state.uploads.bytes_of("submitter"))
        assert client.post("/v1/uploads", params={"name": "a.mp4"}, content=MP4).is_success


def test_an_upload_that_has_no_room_is_refused_before_it_is_read(tmp_path: Path) -> None:
    made = make_service(tmp_path, quota=Quota(stored_upload_bytes=2000))
    with served(made.app) as url, made.at(url, "submitter") as client:
        said = raw(url, head(made, "/v1/uploads?name=a.mp4", "Content-Length: 2001"))
        assert said.startswith(b"HTTP/1.1 413")
        with begun(made, url, 1500):
            wait_for(lambda: made.app.state.uploads.bytes_of("submitter") == 1500)
            refused = client.post("/v1/uploads", params={"name": "a.mp4"}, content=MP4 + bytes(500))
            assert refused.status_code == 429
            assert "with those under way" in refused.json()["detail"]
        wait_for(lambda: not made.app.state.uploads.bytes_of("submitter"))
        whole = MP4.ljust(2000, b".")
        full = client.post("/v1/uploads", params={"name": "a.mp4"}, content=whole)
        again = client.post("/v1/uploads", params={"name": "a.mp4"}, content=whole)
        assert (full.status_code, again.status_code) == (201, 200)


# --- headers, logs, hosts


def test_every_answer_has_the_headers_that_browsers_heed(client: httpx.Client, url: str) -> None:
    for answer in (client.get("/v1/runs"), client.get("/nope"), httpx.get(f"{url}/v1/runs"),
                   client.post("/v1/runs", content=bytes(edge.BODY_BYTES + 1))):  # fmt: skip
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "Server" not in answer.headers


def test_no_other_site_is_let_in(client: httpx.Client) -> None:
    origin = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for answer in (
        client.options("/v1/runs", headers=origin),
        client.get("/v1/runs", headers=origin),
    ):
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    assert client.options("/v1/runs", headers=origin).status_code == 405


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PUT", "DELETE", "FOO"])
def test_other_methods_are_refused_with_those_that_there_are(
    client: httpx.Client, method: str
) -> None:
    answer = client.request(method, "/v1/runs")
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "GET, POST"
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_only_the_hosts_that_are_configured_are_answered(tmp_path: Path) -> None:
    made = make_service(tmp_path, allowed_hosts=("paint.example", "127.0.0.1"))
    with served(made.app) as url, made.at(url, "submitter") as client:
        assert client.get("/v1/runs").status_code == 200
        for host in ("paint.example", "PAINT.example:8080"):
            assert client.get("/v1/runs", headers={"Host": host}).status_code == 200
        for host in ("evil.example", "paint.example.evil.example", "", "[", "paint.example@evil"):
            answer = client.get("/v1/runs", headers={"Host": host})
            assert answer.status_code == 400, host


def test_no_header_comes_from_what_a_user_chose(client: httpx.Client, made: Made) -> None:
    asked = ASKED | {"target": 'out/a"; filename=b.exe.mp4'}
    answer = client.post("/v1/runs", json=asked, headers={"Idempotency-Key": "a%0d%0aX:y"})
    assert answer.status_code == 202
    assert answer.headers["Location"].rpartition("/")[2].isalnum()


def test_nothing_that_a_client_sends_makes_a_line_in_a_log_or_the_audit(
    made: Made, client: httpx.Client, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "impasto")
    forged = "/v1/runs/x%0aadmin%20revoked%20everything%1b[2J/cancel"
    client.post(forged)
    httpx.get(f"{url}/v1/runs", headers={"Authorization": "Bearer a\x1b[2Jb"})
    entries = made.backend.audit.page(limit=500)
    for each in entries:
        assert each.entry.subject.isprintable()
        assert each.entry.action.isprintable()
    for line in caplog.messages:
        assert line.isprintable()


def test_no_secret_is_in_the_audit_log_or_the_log(
    made: Made, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with made.at(url, "admin") as admin, made.at(url, None) as nobody:
        asked = {"user": "carol", "role": "viewer"}
        written = admin.post("/v1/tokens", json=asked).json()["token"]
        nobody.get("/v1/tokens", headers={"Authorization": f"Bearer {written}"})
        nobody.get("/v1/runs", params={"token": written}, headers={"Authorization": "Bearer x"})
        listed = admin.get("/v1/tokens").text + admin.get("/v1/audit").text
    ours = [record.getMessage() for record in caplog.records
            if record.name.startswith("impasto") or record.name == "uvicorn.error"]  # fmt: skip
    assert ours
    for token in (written, *made.tokens.values()):
        secret = token[-43:]
        assert secret not in listed
        assert secret not in "".join(ours)
    assert not logging.getLogger("uvicorn.access").propagate  # it would write the whole address


def test_a_flood_of_strangers_does_not_fill_the_audit_log(tmp_path: Path) -> None:
    made = make_service(tmp_path)
    with served(made.app) as url, httpx.Client(base_url=url) as stranger:
        for _ in range(150):
            assert stranger.get("/v1/runs").status_code == 401
    assert len(made.backend.audit.page(limit=500)) <= 62


def test_what_was_done_stands_in_the_audit_log(made: Made, url: str) -> None:
    with made.at(url, "operator") as client:
        run_id = client.post("/v1/runs", json=ASKED).json()["run_id"]
        client.post(f"/v1/runs/{run_id}/cancel")
        client.get("/v1/audit")
    with made.at(url, "admin") as admin:
        found = admin.get("/v1/audit", params={"user": "operator", "limit": 3}).json()["entries"]
    assert [(each["action"], each["subject"], each["status"]) for each in found] == [
        ("GET /v1/audit", "", 403),
        ("POST /v1/runs/{run_id}/cancel", run_id, 200),
        ("POST /v1/runs", run_id, 202),
    ]
    assert {each["address"] for each in found} == {"127.0.0.1"}
    assert {each["role"] for each in found} == {"operator"}


def test_metrics_do_not_grow_with_what_strangers_invent(made: Made, url: str) -> None:
    with made.at(url, "operator") as client:
        for n in range(5):
            client.get(f"/v1/runs/{n:019x}")
            client.request(f"M{n}", f"/v1/x{n}")
        text = client.get("/metrics").text
    assert 'route="/v1/runs/{run_id}"' in text
    assert 'method="other",route="(no route)"' in text
    assert "/v1/x" not in text


def _certificate(folder: Path) -> str:
    """A certificate for 127.0.0.1 that signs itself, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "impasto")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    file = folder / "server.pem"
    file.write_bytes(
        made.public_bytes(Encoding.PEM)
        + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return str(file)


def test_the_port_speaks_tls_and_the_client_believes_no_stranger(tmp_path: Path) -> None:
    made = make_service(tmp_path)
    certificate = _certificate(tmp_path)
    with served(made.app, certificate=certificate) as url:
        assert url.startswith("https://")
        answer = httpx.get(f"{url}/health", verify=ssl.create_default_context(cafile=certificate))
        assert answer.status_code == 200
        assert "max-age" in answer.headers["Strict-Transport-Security"]
        with (
            Server(url, made.tokens["viewer"]) as server,
            pytest.raises(RunFailed, match="CERTIFICATE_VERIFY_FAILED"),
        ):
            server.run("0" * 19)


@pytest.mark.parametrize("text", [None, "", "junk"])
def test_a_certificate_that_is_none_is_one_line(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "x.pem"
    if text is not None:
        file.write_text(text)
    app = make_service(tmp_path).app
    with pytest.raises(RequestError, match="can't use the certificate"):
        configure(app, host="127.0.0.1", port=0, certificate=str(file))
