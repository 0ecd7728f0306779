"""One contract, every store: a folder, memory, Azurite with two accounts, S3 with IAM enforced."""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import itertools
import json
import os
import socket
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from impasto.access import Access, covers, find_access
from impasto.accounts import load_access
from impasto.config import load_settings
from impasto.errors import ImpastoError, RequestError, RunFailed, Unavailable
from impasto.stores import Store, StoredFile, backends, handed, locate, open_store
from impasto.stores import store as store_module
from servers import S3, Azurite, azurite, free_port

_BIG = os.urandom(17 << 20)
"""More than one request takes."""


_names = itertools.count()
_PLACES = ("folder", "sealed folder", "memory", "azure key", "azure sas", "s3")
_REMOTE = _PLACES[3:]


@pytest.fixture
def open_place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Store]:
    """`open_place("azure sas")` is an empty store of that kind."""

    def opened(kind: str) -> Store:
        number = next(_names)
        match kind:
            case "folder":
                return open_store(str(tmp_path / "store"))
            case "sealed folder":
                seal = f"old:{base64.b64encode(bytes(32)).decode()}"
                access = Access(url=str(tmp_path), seal=seal)
                return open_store(str(tmp_path / "store"), [access])
            case "memory":
                return open_store(f"memory://m{number}/some/prefix")
            case "azure key":
                server: Azurite = request.getfixturevalue("blobs")
                access = server.container("media", f"media-{number}")
                return open_store(f"az://media-{number}/some/prefix", [access])
            case "azure sas":
                server = request.getfixturevalue("blobs")
                access = server.container("system", f"system-{number}")
                signed = replace(access, key=None, sas=server.sas("system", f"system-{number}"))
                return open_store(f"az://system-{number}", [signed])
            case _:
                bucket: S3 = request.getfixturevalue("buckets")
                return open_store(f"s3://films/p{number}", [bucket.owner])

    return opened


@pytest.fixture(params=_PLACES)
def store(request: pytest.FixtureRequest, open_place: Callable[[str], Store]) -> Store:
    return open_place(request.param)


def _keys(store: Store, prefix: str = "") -> list[str]:
    return sorted(entry.key for entry in store.list(prefix))


# --- the contract -----------------------------------------------------------------------------


def test_what_is_put_is_there_whole_and_put_again_replaced(store: Store) -> None:
    store.put("runs/a/plan.json", b"one")
    assert store.get("runs/a/plan.json") == b"one"
    store.put("runs/a/plan.json", b"another")
    assert store.get("runs/a/plan.json") == b"another"
    store.put("empty", b"")
    assert store.get("empty") == b""


def test_a_new_object_is_written_once(store: Store) -> None:
    assert store.put_new("runs/a", b"mine")
    assert not store.put_new("runs/a", b"theirs")
    assert store.get("runs/a") == b"mine"


def test_of_many_who_write_a_new_object_one_does(store: Store) -> None:
    wrote: list[bytes] = []

    def write(number: int) -> None:
        data = b"%d" % number
        if store.put_new("contended", data):
            wrote.append(data)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrote == [store.get("contended")]


def test_an_update_needs_the_etag_that_is_there(store: Store) -> None:
    store.put("state", b"1")
    first = store.head("state").etag
    assert store.put_if_match("state", b"2", first)
    assert not store.put_if_match("state", b"3", first)
    assert store.get("state") == b"2"
    assert not store.put_if_match("absent", b"x", first)
    assert not store.exists("absent")


def test_a_head_says_what_a_listing_says(store: Store) -> None:
    store.put("in/a.mp4", b"12345")
    (entry,) = store.list("in")
    assert entry == store.head("in/a.mp4")
    assert (entry.key, entry.bytes) == ("in/a.mp4", 5)
    assert entry.etag
    assert entry.modified.tzinfo is not None


def test_every_write_changes_the_etag(store: Store) -> None:
    store.put("a", b"one")
    before = store.head("a").etag
    store.put("a", b"two")
    assert store.head("a").etag != before


def test_a_range_is_what_it_says(store: Store) -> None:
    data = bytes(range(256)) * 4
    store.put("a", data)
    etag = store.head("a").etag
    assert store.get_range("a", 0, 1) == data[:1]
    assert store.get_range("a", 300, 700, etag=etag) == data[300:700]
    assert store.get_range("a", 1000, len(data)) == data[1000:]


def test_a_range_of_a_changed_object_is_refused(store: Store) -> None:
    store.put("a", b"one")
    etag = store.head("a").etag
    store.put("a", b"two")
    with pytest.raises(RunFailed, match=r"'a' in .* changed while it was read"):
        store.get_range("a", 0, 2, etag=etag)


def test_a_missing_object_is_missing(store: Store) -> None:
    for ask in (store.get, store.head, lambda key: store.get_range(key, 0, 1)):
        with pytest.raises(FileNotFoundError, match=r"^there is no 'no/such' in "):
            ask("no/such")
    assert not store.exists("no/such")


@pytest.mark.parametrize("key", ["a/b", "a/b/c", "n" * 300, "n" * 300 + "/x"])
def test_what_a_disk_could_not_hold_is_missing_as_anywhere(key: str, store: Store) -> None:
    store.put("a", b"x")
    assert not store.exists(key)
    for look in (store.head, store.get, lambda k: store.get_range(k, 0, 1)):
        with pytest.raises(FileNotFoundError):
            look(key)
    assert list(store.list(key)) == []
    store.delete(key)
    assert store.get("a") == b"x"


def test_deleting_is_done_once_and_does_not_mind(store: Store) -> None:
    store.put("runs/ü b/a+b %.json", b"1")
    store.delete("runs/ü b/a+b %.json")
    store.delete("runs/ü b/a+b %.json")
    assert _keys(store) == []


def test_a_listing_goes_by_whole_parts_of_keys(store: Store) -> None:
    for key in ("runs/a/1", "runs/a/2", "runs/ab/3", "other"):
        store.put(key, b"x")
    assert _keys(store) == ["other", "runs/a/1", "runs/a/2", "runs/ab/3"]
    assert _keys(store, "runs/a") == ["runs/a/1", "runs/a/2"]
    assert _keys(store, "runs/") == ["runs/a/1", "runs/a/2", "runs/ab/3"]
    assert _keys(store, "nothing") == []


def test_a_listing_reads_on_beyond_one_page(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_LIST_BATCH", 7)
    for number in range(30):
        store.put(f"many/{number:03}", b"")
    assert len(_keys(store, "many")) == 30


def test_a_large_store_is_listed_in_little_memory() -> None:
    store = open_store("memory://crowd")
    for number in range(30_000):
        store.put(f"in/{number}", b"")
    tracemalloc.start()
    try:
        assert sum(1 for _ in store.list("in")) == 30_000
        assert tracemalloc.get_traced_memory()[1] < 4 << 20  # all entries at once are 12 MB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["a?b#c.mp4", "50%.mp4", "ü 夜 [1]{2}*.mp4", "a&b=c+d.mp4", "..x"])
def test_a_key_is_taken_as_it_stands(name: str, store: Store) -> None:
    store.put(f"in/{name}", b"1")
    assert _keys(store) == [f"in/{name}"]
    assert store.get(f"in/{name}") == b"1"


@pytest.mark.parametrize("key", ["../up", "a//b", "a/../b"])
def test_a_key_that_leads_elsewhere_is_refused(key: str, store: Store) -> None:
    with pytest.raises(RequestError, match="can't be the key of an object"):
        store.put(key, b"1")


def test_a_large_object_goes_whole_and_in_parts(store: Store) -> None:
    store.put("large", _BIG)
    assert store.put_new("large too", _BIG)
    for key in ("large", "large too"):
        assert store.head(key).bytes == len(_BIG)
        assert hashlib.sha256(store.get(key)).digest() == hashlib.sha256(_BIG).digest()


@pytest.mark.parametrize("size", [0, 1000, len(_BIG)])
def test_an_upload_overwrites_only_when_told(size: int, store: Store) -> None:
    data = _BIG[:size]
    assert store.upload("out/a.mp4", io.BytesIO(data))
    assert store.get("out/a.mp4") == data
    assert not store.upload("out/a.mp4", io.BytesIO(b"other"))
    assert not store.upload("out/a.mp4", io.BytesIO(_BIG))
    assert store.get("out/a.mp4") == data
    assert store.upload("out/a.mp4", io.BytesIO(data + b"!"), new=False)
    assert store.get("out/a.mp4") == data + b"!"
    assert _keys(store) == ["out/a.mp4"]


def test_what_no_store_copies_at_once_is_still_not_overwritten(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "_ONE_COPY_BYTES", len(_BIG) - 1)
    assert store.upload("out/a.mp4", io.BytesIO(_BIG))
    assert not store.upload("out/a.mp4", io.BytesIO(_BIG[::-1]))
    assert store.get("out/a.mp4") == _BIG


def test_a_target_that_appears_during_its_upload_is_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "exists", lambda self, key: False)  # as it was a moment ago
    store.put("out/a.mp4", b"theirs")
    assert not store.upload("out/a.mp4", io.BytesIO(_BIG))
    assert store.get("out/a.mp4") == b"theirs"
    assert _keys(store) == ["out/a.mp4"]


def test_a_stream_that_breaks_leaves_nothing(store: Store) -> None:
    class Breaking(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > (9 << 20):
                raise OSError("the disk is gone")
            return super().read(size)

    for new in (True, False):
        with pytest.raises(RunFailed, match="can't write"):
            store.upload("out/a.mp4", Breaking(_BIG), new=new)
    assert _keys(store) == []


# --- reading like a file ----------------------------------------------------------------------


def _file(store: Store, data: bytes) -> StoredFile:
    store.put("in/film.mp4", data)
    return StoredFile(store, "in/film.mp4")


def test_a_stored_file_reads_like_any_other(store: Store) -> None:
    data = _BIG[: 3 << 20]
    file = _file(store, data).open()
    twin = io.BytesIO(data)
    for place, count in [(0, 12), (2 << 20, 100_000), (5, 70_000), (len(data) - 3, 10), (9**9, 1)]:
        assert file.seek(place) == twin.seek(place)
        whole = b""
        while part := file.read(count - len(whole)):
            whole += part
        assert whole == twin.read(count)
    assert file.seek(-5, io.SEEK_END) == len(data) - 5
    assert file.read() == data[-5:]
    assert not hasattr(file, "name")


def test_its_digest_is_of_all_its_bytes_however_it_was_read(store: Store) -> None:
    data = _BIG[: 5 << 20]
    film = _file(store, data)
    file = film.open()
    for place in (0, 4 << 20, 100, 3 << 20):
        file.seek(place)
        file.read(1000)
    assert film.sha256() == hashlib.sha256(data).hexdigest()


def test_a_file_that_changes_under_a_reader_is_noticed(store: Store) -> None:
    film = _file(store, _BIG[: 1 << 20])
    file = film.open()
    file.read(10)
    assert not film.changed()
    store.put(film.key, b"another")
    assert film.changed()
    file.seek(900_000)
    with pytest.raises(RunFailed, match="changed while it was read; run again"):
        file.read(10)
    with pytest.raises(RunFailed, match="changed during the run"):
        _ = StoredFile(store, film.key, film.entry.etag).size
    store.delete(film.key)
    assert film.changed()


def test_reading_on_takes_few_requests_and_reading_little_takes_little(store: Store) -> None:
    film = _file(store, _BIG)
    asked: list[int] = []
    get_range = store.get_range

    def counting(key: str, start: int, stop: int, *, etag: str = "") -> bytes:
        asked.append(stop - start)
        return get_range(key, start, stop, etag=etag)

    store.get_range = counting  # type: ignore[method-assign]
    file = film.open()
    file.seek(8 << 20)
    file.read(1000)
    assert sum(asked) <= 64 << 10
    asked.clear()
    file.seek(0)
    while file.read(32 << 10):
        pass
    assert len(asked) < 15
    assert sum(asked) < len(_BIG) + (8 << 20)


# --- who may, and who is there ----------------------------------------------------------------


@pytest.fixture
def media(blobs: Azurite) -> Access:
    return blobs.container("media", f"who-{next(_names)}")


def _refusal(call: Callable[[], Any], *secrets: str) -> str:
    with pytest.raises(ImpastoError) as refused:
        call()
    line = str(refused.value)
    assert "\n" not in line
    assert not any(secret in line for secret in secrets)
    assert refused.value.__cause__ is None
    return line


def test_a_wrong_key_is_refused_in_one_line(media: Access) -> None:
    wrong = replace(media, key="d3Jvbmcga2V5")
    store = open_store(media.url, [wrong])
    for call in (lambda: store.get("a"), lambda: store.put("a", b""), lambda: list(store.list()),
                 lambda: store.exists("a"), lambda: store.delete("a")):  # fmt: skip
        line = _refusal(call, "d3Jvbmcga2V5")
        assert "credentials are refused (it answers 403 Forbidden" in line
        with pytest.raises(Unavailable):
            call()


def test_the_other_accounts_key_opens_nothing(media: Access, blobs: Azurite) -> None:
    store = open_store(media.url, [replace(media, key=blobs.keys["system"])])
    assert "refused" in _refusal(lambda: store.put("a", b""), blobs.keys["system"])


def test_a_signature_allows_what_it_says(media: Access, blobs: Azurite) -> None:
    owner = open_store(media.url, [media])
    owner.put("a", b"1")
    name = media.url.removeprefix("az://")
    sas = blobs.sas("media", name, "rl")
    reader = open_store(media.url, [replace(media, key=None, sas="?" + sas)])
    assert reader.get("a") == b"1"
    assert _keys(reader) == ["a"]
    signature = sas.rpartition("sig=")[2]
    assert "refused" in _refusal(lambda: reader.put("a", b"2"), sas, signature)
    assert "403" in _refusal(lambda: reader.delete("a"), sas, signature)
    late = blobs.sas("media", name, "rl", hours=-24)
    expired = open_store(media.url, [replace(media, key=None, sas=late)])
    assert "refused" in _refusal(lambda: expired.get("a"), late)
    elsewhere = blobs.container("media", f"who-{next(_names)}")
    other = open_store(elsewhere.url, [replace(elsewhere, key=None, sas=sas)])
    assert "refused" in _refusal(lambda: other.get("a"), sas, signature)


def test_iam_decides_who_writes(buckets: S3) -> None:
    owner = open_store("s3://films/iam", [buckets.owner])
    owner.put("a", b"1")
    reader = open_store("s3://films/iam", [buckets.reader])
    assert reader.get("a") == b"1"
    assert buckets.reader.key
    assert "refused" in _refusal(lambda: reader.put("a", b"2"), buckets.reader.key)
    stranger = open_store("s3://films/iam", [replace(buckets.owner, key="wrong-key-of-nobody")])
    assert "refused" in _refusal(lambda: stranger.get("a"), "wrong-key-of-nobody")


def test_a_missing_container_is_the_requests_fault(blobs: Azurite, buckets: S3) -> None:
    account = replace(blobs.container("media", f"who-{next(_names)}"), url="az://absent")
    bucket = replace(buckets.owner, url="s3://absent")
    for url, access in (("az://absent", account), ("s3://absent/x", bucket)):
        store = open_store(url, [access])
        for call in (lambda s=store: s.get("a"), lambda s=store: s.put("a", b""),
                     lambda s=store: list(s.list())):  # fmt: skip
            with pytest.raises(Unavailable, match="no such container or bucket"):
                call()


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    with azurite(tmp_path_factory.mktemp("tls"), tls=True) as server:
        yield server


def test_a_certificate_is_verified(encrypted: Azurite) -> None:
    access = encrypted.container("media", f"tls-{next(_names)}")
    store = open_store(access.url, [access])
    store.put("a", b"1")
    assert store.get("a") == b"1"
    signed = replace(access, key=None, sas=encrypted.sas("media", store.url.partition("//")[2]))
    open_store(access.url, [signed]).delete("a")
    assert not store.exists("a")
    for wary in (replace(access, certificate=None), replace(signed, certificate=None)):
        store = open_store(access.url, [wary])
        for call in (store.get, store.delete):
            line = _refusal(functools.partial(call, "a"))
            assert line.endswith("its certificate is not trusted")


def _token(**claims: Any) -> str:
    """What Azure AD would sign, unsigned."""
    usual = {"aud": "https://storage.azure.com", "iss": "https://sts.windows.net/ab1f708d-50f6-404c"
             "-a006-d71b2ac7a606/", "nbf": 0, "iat": 0, "exp": 1 << 33}  # fmt: skip
    parts = ({"alg": "none", "typ": "JWT"}, {**usual, **claims})
    texts = (base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in parts)
    return ".".join(text.rstrip("=") for text in texts) + ".c2ln"


class _Cloud:
    """Stands for Azure AD, which can't run here."""

    asked: ClassVar[list[tuple[str, ...]]] = []

    def get_token(self, *scopes: str, **_: Any) -> Any:
        from azure.core.credentials import AccessToken

        self.asked.append(scopes)
        return AccessToken(_token(), 1 << 33)


def test_azure_ad_opens_what_no_key_opens(
    encrypted: Azurite, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = encrypted.container("system", f"tls-{next(_names)}")
    by_token = open_store(access.url, [replace(access, key=None, token=_token())])
    by_token.put("a", b"1")
    monkeypatch.setattr("azure.identity.DefaultAzureCredential", _Cloud)
    store = open_store(access.url, [replace(access, key=None)])
    assert store.get("a") == b"1"
    assert _keys(store) == ["a"]
    assert _Cloud.asked[0] == ("https://storage.azure.com/.default",)
    late = open_store(access.url, [replace(access, key=None, token=_token(exp=1))])
    assert "refused" in _refusal(lambda: late.get("a"), _token(exp=1))


def test_without_azure_identity_a_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore.auth.azure", None)
    with pytest.raises(RequestError, match=r"AZURE_STORAGE_SAS_TOKEN.*pip install 'impasto\[azure"):
        open_store("az://media", [Access(url="az://", account="media")])


@pytest.mark.parametrize("url", ["az://media", "s3://films"])
def test_a_server_that_is_down_fails_after_a_few_tries(url: str) -> None:
    access = Access(url=url, account="media", endpoint=f"http://127.0.0.1:{free_port()}/media",
                    region="us-east-1", key_id="k", key="c2VjcmV0LXNlY3JldA==")  # fmt: skip
    store = open_store(url, [access])
    with pytest.raises(RunFailed, match=r"can't read 'a' in .*: it can't be reached$"):
        store.get("a")
    with pytest.raises(RunFailed, match="it can't be reached"):
        list(store.list())


class _Overloaded(BaseHTTPRequestHandler):
    asked = 0
    well_after = 0
    """Requests that are answered with 503; after that the object is there."""

    def do_GET(self) -> None:
        kind = type(self)
        kind.asked += 1
        if kind.asked <= kind.well_after:
            self.send_error(503)
            return
        self.send_response(200)
        for name, value in {"Content-Length": "2", "ETag": '"1"',
                            "Last-Modified": "Sat, 21 Nov 2026 10:00:00 GMT"}.items():  # fmt: skip
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
        pass


@pytest.fixture
def overloaded() -> Iterator[tuple[Store, type[_Overloaded]]]:
    """A store that answers 503 as often as it is told."""

    class Handler(_Overloaded):
        pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        access = Access(url="az://media", account="media", key="c2VjcmV0",
                        endpoint=f"http://127.0.0.1:{server.server_port}/media")  # fmt: skip
        yield open_store("az://media", [access]), Handler
        server.shutdown()
        thread.join()


def test_a_store_that_is_overloaded_is_asked_again_with_a_bound(
    overloaded: tuple[Store, type[_Overloaded]],
) -> None:
    store, handler = overloaded
    handler.well_after = 2
    assert store.get("a") == b"ok"
    assert handler.asked == 3
    handler.well_after = 10**6
    with pytest.raises(RunFailed, match=r"can't read 'a' in az://media: it answers 503 Service"):
        store.get("a")
    assert handler.asked == 3 + 5


def test_a_store_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "_SILENCE_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        access = Access(url="az://media", account="media", key="c2VjcmV0",
                        endpoint=f"http://127.0.0.1:{port}/media")  # fmt: skip
        store = open_store("az://media", [access])
        with pytest.raises(RunFailed, match=r"it does not answer in time$"):
            store.get("a")
        signed = replace(access, key=None, sas="sig=abc")
        with pytest.raises(RunFailed, match="can't delete"):
            open_store("az://media", [signed]).delete("a")


# --- URLs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("az://media/a.mp4?sv=2021&sig=SECRET", "must not carry"),
        ("az://user:SECRET@media/a.mp4", "must not carry"),
        ("https://media.blob.core.windows.net/in/a.mp4?sp=r&sig=SECRET", "must not carry"),
        ("s3://films/a?X-Amz-Signature=SECRET", "must not carry"),
        ("https://media.blob.core.windows.net/in/a.mp4", "https:// is not a place"),
        ("ftp://host/a.mp4", "ftp:// is not a place"),
        ("az:///a.mp4", "names no container"),
        ("file://elsewhere/a.mp4", "is not on this machine"),
    ],
)
def test_a_url_that_is_none_of_ours_is_refused_without_its_secret(url: str, says: str) -> None:
    assert says in _refusal(lambda: open_store(url), "SECRET")
    assert says in _refusal(lambda: locate(url), "SECRET")


@pytest.mark.parametrize("url", ["az://media", "az://media/", "az://media/in/"])
def test_a_container_is_no_file(url: str) -> None:
    access = Access(url="az://", account="media", key="c2VjcmV0")
    with pytest.raises(RequestError, match="names no object"):
        locate(url, [access])


def test_what_is_on_this_machine_is_a_path(tmp_path: Path) -> None:
    assert locate("a?b=sig.mp4") == Path("a?b=sig.mp4")
    assert locate(f"file://{tmp_path}/a%20b.mp4") == tmp_path / "a b.mp4"
    assert locate("concat:x.mp4") == Path("concat:x.mp4")
    assert open_store(f"file://{tmp_path}/s").url == str(tmp_path / "s")


def test_a_stored_file_is_named_like_a_path() -> None:
    film = locate("memory://names/in/holiday.mp4")
    assert str(film) == "memory://names/in/holiday.mp4"
    assert (film.name, film.stem, film.suffix) == ("holiday.mp4", "holiday", ".mp4")
    assert str(film.with_name("b.mkv")) == "memory://names/in/b.mkv"
    assert str(film.with_suffix(".mkv")) == "memory://names/in/holiday.mkv"
    assert str(locate("memory://names/a.mp4").with_name("b")) == "memory://names/b"


def test_an_endpoint_without_tls_is_taken_on_this_machine_only(tmp_path: Path) -> None:
    access = Access(url="az://", account="media", key="c2VjcmV0", endpoint="http://10.0.0.1/media")
    with pytest.raises(RequestError, match="is not encrypted: give an https:// URL, or set allow"):
        open_store("az://media", [access])
    open_store("az://media", [replace(access, allow_http=True)])
    for host in ("127.0.0.1:10000", "[::1]:1", "localhost"):
        open_store("az://media", [replace(access, endpoint=f"http://{host}/media")])
    with pytest.raises(RequestError, match="must be an https"):
        open_store("az://media", [replace(access, endpoint="media.example")])


def test_what_lacks_credentials_says_how_to_give_them() -> None:
    with pytest.raises(RequestError, match="set AZURE_STORAGE_ACCOUNT_NAME"):
        open_store("az://media")
    with pytest.raises(RequestError, match="needs its secret in MEDIA_KEY, which is not set"):
        open_store("az://media", [Access(url="az://", account="media", lacks="MEDIA_KEY")])
    with pytest.raises(RequestError, match="the AWS profile 'nobody' can't be used"):
        open_store("s3://films", [Access(url="s3://", profile="nobody")])
    with pytest.raises(RequestError, match=r"'/no/such\.json' is not a file"):
        open_store("gs://films", [Access(url="gs://", service_account="/no/such.json")])


def test_a_key_that_is_none_is_refused_without_being_shown(blobs: Azurite) -> None:
    access = blobs.container("media", f"who-{next(_names)}")
    store = open_store(access.url, [replace(access, key="not base64 SECRET")])
    assert "can't write" in _refusal(lambda: store.put("a", b""), "SECRET")


def test_a_worker_is_handed_what_opens_its_stores_and_no_more(tmp_path: Path) -> None:
    known = [Access(url=f"az://{name}", account="a", key="c2VjcmV0") for name in ("x1", "x2", "x3")]
    film, work = locate("az://x1/in/a.mp4", known), open_store("az://x2", known)
    assert handed(film, work, film, tmp_path) == (known[0], known[1])
    assert handed(open_store(str(tmp_path))) == ()


# --- credentials ------------------------------------------------------------------------------


def test_the_longest_url_counts() -> None:
    known = [Access(url=url) for url in ("az://", "az://media", "az://media/in/private")]
    for url, found in {
        "az://media/in/a.mp4": "az://media",
        "az://media/in/private/a.mp4": "az://media/in/private",
        "az://mediators/a.mp4": "az://",
    }.items():
        access = find_access(url, known)
        assert access is not None
        assert access.url == found
    assert find_access("s3://films", known) is None
    assert covers("az://media", "az://media")


def test_two_accounts_come_from_one_file(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(
        '[stores."az://media"]\naccount = "paintings"\nsas_env = "MEDIA_SAS"\n'
        '[stores."az://system/"]\naccount = "ours"\nkey = "c2VjcmV0"\n'
        '[stores."s3://films"]\nkey_id = "id"\nkey_env = "ABSENT"\ncertificate = "ca.pem"\n'
    )
    settings = load_settings({"MEDIA_SAS": "sig=UNSEEN", "AZURE_STORAGE_ACCOUNT": "x"}, file)
    media, system, films, usual = settings.access
    assert (media.account, media.sas, media.key) == ("paintings", "sig=UNSEEN", None)
    assert (system.url, system.key) == ("az://system", "c2VjcmV0")
    assert (films.lacks, films.certificate) == ("ABSENT", str(tmp_path / "ca.pem"))
    assert (usual.url, usual.account) == ("az://", "x")
    assert "UNSEEN" not in repr(settings)
    assert "c2VjcmV0" not in repr(settings)


@pytest.mark.parametrize(
    ("environ", "access"),
    [
        (
            {"AZURE_STORAGE_ACCOUNT_NAME": "a", "AZURE_STORAGE_ACCOUNT_KEY": "k"},
            Access(url="az://", account="a", key="k"),
        ),
        (
            {"AZURE_STORAGE_ACCOUNT": "a", "AZURE_STORAGE_SAS_TOKEN": "s"},
            Access(url="az://", account="a", sas="s"),
        ),
        (
            {"AWS_ACCESS_KEY_ID": "i", "AWS_SECRET_ACCESS_KEY": "k", "AWS_PROFILE": "p",
             "AWS_SESSION_TOKEN": "t", "AWS_REGION": "r", "AWS_ENDPOINT_URL": "https://e"},
            Access(url="s3://", key_id="i", key="k", token="t", region="r", endpoint="https://e"),
        ),
        ({"AWS_PROFILE": "p"}, Access(url="s3://", profile="p")),
        (
            {"GOOGLE_APPLICATION_CREDENTIALS": "/a.json"},
            Access(url="gs://", service_account="/a.json"),
        ),
        ({"AZURE_STORAGE_KEY": ""}, None),
        (
            {"AZURE_STORAGE_CONNECTION_STRING": "DefaultEndpointsProtocol=https;AccountName=a;"
             "AccountKey=a2V5==;EndpointSuffix=core.windows.net"},
            Access(url="az://", account="a", key="a2V5=="),
        ),
        (
            {"AZURE_STORAGE_CONNECTION_STRING": "AccountName=a;SharedAccessSignature=sv=1&sig=s;"
             "BlobEndpoint=https://e/a", "AZURE_STORAGE_ACCOUNT": "mine"},
            Access(url="az://", account="mine", sas="sv=1&sig=s", endpoint="https://e/a"),
        ),
    ],
)  # fmt: skip
def test_the_usual_variables_are_read(environ: dict[str, str], access: Access | None) -> None:
    assert load_access({}, environ, Path()) == (() if access is None else (access,))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("stores = 3", "stores must be a table"),
        ('[stores]\n"az://m" = "key"', "must be a table for az://"),
        ('[stores."https://m"]\nkey = "SECRET"', "must be a table for az://"),
        ('[stores."az://m"]\nkay = "SECRET"', "unknown key 'kay'; the keys are account"),
        ('[stores."az://m"]\nkey = 3', "key must be text in quotes"),
        ('[stores."az://m"]\nallow_http = "SECRET"', "allow_http must be true or false"),
    ],
)
def test_a_wrong_table_is_refused_without_its_secret(text: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(text)
    assert says in _refusal(lambda: load_settings({}, file), "SECRET")


def test_other_variables_do_not_disturb_what_a_table_says(
    media: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_TOKEN"):
        monkeypatch.setenv(name, "d3Jvbmc=")
    store = open_store(media.url, [media])
    store.put("a", b"1")
    assert store.get("a") == b"1"


def test_parts_of_uploads_that_were_killed_are_swept_and_nothing_else(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("impasto.stores.store._ONE_PUT_BYTES", 10)
    parts: list[str] = []
    delete = Store.delete

    def killed(store: Store, key: str) -> None:
        parts.append(key)

    monkeypatch.setattr(Store, "delete", killed)
    assert store.upload("out/film.mp4", io.BytesIO(bytes(20)))
    monkeypatch.setattr(Store, "delete", delete)
    others = ["out/.film.part", "out/film-0123abcd.part", "out/film.mp4"]
    for key in others[:2]:
        store.put(key, b"mine")
    now = datetime.now(UTC)
    store.sweep_uploads(now - timedelta(days=1))
    assert _keys(store, "out") == sorted([*others, *parts])
    store.sweep_uploads(now + timedelta(days=1))
    assert _keys(store, "out") == sorted(others)


def test_what_a_killed_process_had_begun_to_write_is_swept(tmp_path: Path) -> None:
    """obstore writes beside the object, under its name and a number."""
    store = open_store(str(tmp_path))
    store.put("runs/a/segments/one.mkv", b"whole")
    begun = tmp_path / "runs" / "a" / "segments" / "two.mkv#1"
    begun.write_bytes(b"ha")
    other = tmp_path / "runs" / "a#b"
    other.write_bytes(b"mine")
    now = datetime.now(UTC)
    store.sweep(now - timedelta(hours=1))
    assert begun.exists()
    store.sweep(now + timedelta(hours=1))
    assert not begun.exists()
    assert other.exists()
    assert store.get("runs/a/segments/one.mkv") == b"whole"
