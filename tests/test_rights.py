"""What workers may do and know: their chunk's objects for some hours, and no account's key."""

from __future__ import annotations

import base64
import itertools
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

import media_maker
import networks
import servers
from crew import FORTY, alive, crew, end_shared, open_engine
from impasto.access import Access
from impasto.config import load_settings
from impasto.engines import handout, local, ray
from impasto.engines.member import Order
from impasto.errors import RequestError, RunFailed, Unavailable
from impasto.keys import from_json, segment_key, to_json
from impasto.records import Chunk, Done, Event, Failed, Plan, Task
from impasto.request import Options
from impasto.rights import limited
from impasto.run import score
from impasto.settings import Settings
from impasto.stores import Store, aws, backends, grants, narrow, open_store
from impasto.stores.aws import policy
from impasto.worker import model_key, score_chunk
from media_table import AudioTrack
from painting import PLAIN, model_in, settings_in

_numbers = itertools.count()
_THREES = replace(PLAIN, chunk_frames=3)
_CROWDS = ["local", "mpi", "ray"]
"""Engines whose workers are processes of their own."""


# --- what they know ---------------------------------------------------------------------------


@pytest.mark.parametrize("engine", _CROWDS)
def test_workers_do_not_inherit_secrets(
    engine: str, media: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[stores."az://media"]\naccount = "paintings"\nkey_env = "MINE"\n')
    hidden = {"MINE": "s3cret", "AZURE_STORAGE_KEY": "s3cret", "AWS_SECRET_ACCESS_KEY": "s3cret"}
    hidden["PGPASSWORD"] = "s3cret"
    if engine != "ray":  # whose processes know each other by it
        hidden["RAY_AUTH_TOKEN"] = "s3cret"
    for name, value in {**hidden, "OTHER": "plain"}.items():
        monkeypatch.setenv(name, value)
    seen: list[dict[str, str]] = []
    beside: list[dict[str, str]] = []
    dumps: list[tuple[int, int]] = []

    def look(event: Event) -> None:
        if isinstance(event, Done) and not seen:
            seen.extend(worker.environ() for worker in crew(all_ranks=True))
            beside.extend(process.environ() for process in _with_all_below(crew(all_ranks=True)))
            dumps.extend(worker.rlimit(psutil.RLIMIT_CORE) for worker in crew())

    around = load_settings(hidden, config).surroundings
    score(
        media("cfr_24"),
        model=model_in(tmp_path, networks.painterly()),
        target=tmp_path / "out.mp4",
        options=replace(PLAIN, engine=engine, workers=1),
        settings=replace(settings_in(tmp_path), surroundings=around),
        on_event=look,
    )
    assert seen
    for environ in seen:
        assert environ["OTHER"] == "plain"
    assert not [environ for environ in (*seen, *beside) if "s3cret" in environ.values()]
    assert {soft for soft, _ in dumps} == {0}  # nor does a crash write what they know to a disk


def _with_all_below(processes: list[psutil.Process]) -> set[psutil.Process]:
    """These processes and all that they have started, as a Ray cluster of a run's own."""
    below = (child for one in processes for child in one.children(recursive=True))
    return {*processes, *below}


@pytest.fixture(scope="module", autouse=True)
def _nodes() -> Iterator[None]:
    yield
    end_shared()


@dataclass(frozen=True, slots=True)
class Cloud:
    """A film in one account and a place to work in another, both opened by the accounts' keys."""

    media: Access
    system: Access
    folder: Path

    @property
    def source(self) -> str:
        return f"{self.media.url}/in/film.mp4"

    @property
    def settings(self) -> Settings:
        settings = settings_in(self.folder)
        return replace(
            settings, system_store=f"{self.system.url}/work", access=(self.media, self.system)
        )

    def store(self, which: str) -> Store:
        access = self.media if which == "media" else self.system
        return open_store(access.url, [access])

    def paint(self, options: Options, on_event: Callable[[Event], None] = lambda _: None) -> None:
        score(
            self.source,
            model=model_in(self.folder, networks.painterly()),
            target=f"{self.media.url}/out/film.mp4",
            options=options,
            settings=self.settings,
            on_event=on_event,
        )


@pytest.fixture
def cloud(blobs: servers.Azurite, tmp_path: Path) -> Cloud:
    number = next(_numbers)
    media = blobs.container("media", f"rights-media-{number}")
    system = blobs.container("system", f"rights-system-{number}")
    film = tmp_path / "film.mp4"
    media_maker.make(replace(FORTY, audio=(AudioTrack(),)), film)
    open_store(media.url, [media]).put("in/film.mp4", film.read_bytes())
    film.unlink()
    return Cloud(media, system, tmp_path)


@pytest.mark.parametrize("engine", _CROWDS)
def test_no_key_is_found_with_a_worker_nor_in_anything_that_it_wrote(
    engine: str, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [key for key in (cloud.media.key, cloud.system.key) if key]
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", keys[0])
    monkeypatch.setenv("TMPDIR", str(cloud.folder))
    told: list[bytes] = []
    orders: list[Order] = []

    def tell(value: object) -> bytes:
        if isinstance(value, Order):
            orders.append(value)
            told.append(to_json(value))
        return to_json(value)

    monkeypatch.setattr(local, "to_json", tell)
    monkeypatch.setattr(ray, "to_json", tell)

    def look(event: Event) -> None:
        if isinstance(event, Done):
            told.extend(_known_to(crew(all_ranks=True), cloud.folder))
            if event.chunk == 0:
                time.sleep(1.1)  # a signature's end is a whole second

    cloud.paint(replace(_THREES, engine=engine, workers=1, keep=True), look)
    assert len(told) > 10
    for which in ("media", "system"):
        store = cloud.store(which)
        told += [store.get(entry.key) for entry in store.list()]
    told += [path.read_bytes() for path in cloud.folder.rglob("*") if path.is_file()]
    text = b"\n".join(told)
    assert len(keys) == 2
    assert not [key for key in keys if key.encode() in text]
    assert len(orders) == (0 if engine == "mpi" else 14)
    assert all(access.grants for order in orders for access in order.task.access)
    ends = [max(re.findall(r"[?&]se=([^&\"]*)", to_json(order).decode())) for order in orders]
    assert not orders or ends[0] < ends[-1]  # each chunk's rights begin with its order


def _known_to(processes: list[psutil.Process], folder: Path) -> Iterator[bytes]:
    """Their arguments, environments and files in `folder`, and whatever a Ray of theirs wrote."""
    written: set[Path] = set()
    for process in _with_all_below(processes):
        words = process.cmdline()
        yield "\0".join([*words, *process.environ().values()]).encode()
        files = (Path(file.path) for file in process.open_files())
        written.update(file for file in files if file.is_relative_to(folder))
        for session in re.findall(r"/\w+/impasto-\w+", " ".join(words)):
            written.update(file for file in Path(session).rglob("*") if file.is_file())
    yield from (file.read_bytes() for file in written)


def test_nothing_but_media_lies_in_the_media_store(cloud: Cloud) -> None:
    cloud.paint(replace(_THREES, keep=True))
    assert sorted(entry.key for entry in cloud.store("media").list()) == [
        "in/film.mp4",
        "out/film.mp4",
    ]
    kinds = {entry.key.rpartition(".")[2] for entry in cloud.store("system").list()}
    assert {"json", "mkv", "onnx"} <= kinds <= {"json", "jsonl", "mkv", "onnx"}


# --- what they may do -------------------------------------------------------------------------

_REFUSED = "the credentials are refused|was given no right to"


@pytest.fixture
def begun(cloud: Cloud) -> tuple[Cloud, Task, Plan]:
    """A run whose first chunk is done, as its driver would hand it out."""

    class Stop(Exception):  # noqa: N818
        pass

    def stop(event: Event) -> None:
        if isinstance(event, Done):
            raise Stop

    with pytest.raises(Stop):
        cloud.paint(_THREES, stop)
    work = open_store(f"{cloud.system.url}/work", [cloud.system])
    (key,) = [entry.key for entry in work.list("runs") if entry.key.endswith("plan.json")]
    task = Task(key.split("/")[1], cloud.source, work.url, access=(cloud.media, cloud.system))
    return cloud, task, from_json(work.get(key), Plan)


def test_a_worker_reads_and_writes_its_chunk_and_nothing_else(
    begun: tuple[Cloud, Task, Plan],
) -> None:
    cloud, task, plan = begun
    chunk = plan.chunks[1]
    narrowed = limited(task, chunk)
    assert not {cloud.media.key, cloud.system.key} & {
        value for access in narrowed.access for value in access.secrets
    }
    outcome = score_chunk(narrowed, chunk)
    assert isinstance(outcome, Done), outcome
    work = open_store(task.system, narrowed.access)
    media = open_store(cloud.media.url, narrowed.access)
    key, other = segment_key(plan, chunk), segment_key(plan, plan.chunks[2])
    assert work.head(f"runs/{task.run_id}/plan.json").bytes
    for ask in (
        lambda: work.get(f"{key}.mkv"),  # written, not read
        lambda: work.put(f"{other}.mkv", b"no"),  # another chunk's
        lambda: work.put(f"runs/{task.run_id}/plan.json", b"no"),  # read, not written
        lambda: work.put(model_key(plan.spec.scorer), b"no"),
        lambda: work.delete(f"{key}.mkv"),
        lambda: list(work.list()),
        lambda: work.get("runs/other/plan.json"),
        lambda: media.put("in/film.mp4", b"no"),
        lambda: media.get("in/other.mp4"),
        lambda: list(media.list()),
    ):
        with pytest.raises(RequestError, match=_REFUSED):
            ask()


@pytest.mark.parametrize("asked", ["another object", "another container", "to write", "to delete"])
def test_the_service_itself_refuses_what_a_signature_does_not_say(asked: str, cloud: Cloud) -> None:
    """As above, with the signature used for something else than what it was made for."""
    system = cloud.store("system")
    system.put("runs/a/plan.json", b"1")
    system.put("runs/b/plan.json", b"1")
    (access,) = narrow([cloud.system], reads=[f"{system.url}/runs/a/plan.json"], writes=[])
    ((_, signature),) = access.grants
    stolen = replace(access, grants=(), sas=signature)
    media = open_store(cloud.media.url, [replace(stolen, url=cloud.media.url)])
    system_by_it = open_store(system.url, [stolen])
    asks: dict[str, Callable[[], object]] = {
        "another object": lambda: system_by_it.get("runs/b/plan.json"),
        "another container": lambda: media.get("in/film.mp4"),
        "to write": lambda: system_by_it.put("runs/a/plan.json", b"2"),
        "to delete": lambda: system_by_it.delete("runs/a/plan.json"),
    }
    with pytest.raises(RequestError, match=r"the credentials are refused|it answers 403"):
        asks[asked]()
    assert system.get("runs/a/plan.json") == b"1"


def test_rights_end_and_every_chunk_brings_new_ones(
    begun: tuple[Cloud, Task, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, task, plan = begun
    assert isinstance(score_chunk(limited(task, plan.chunks[3]), plan.chunks[3]), Done)
    with monkeypatch.context() as brief:
        brief.setattr(grants, "_LIFETIME", timedelta(seconds=1))
        late = limited(task, plan.chunks[4])
    time.sleep(2.5)
    refused = score_chunk(late, plan.chunks[4])
    assert isinstance(refused, Failed)
    assert "the credentials are refused" in refused.error
    # The same process goes on with what it has loaded, and with new rights.
    assert isinstance(score_chunk(limited(task, plan.chunks[4]), plan.chunks[4]), Done)
    assert isinstance(score_chunk(limited(task, plan.chunks[5]), plan.chunks[5]), Done)


@pytest.mark.parametrize("engine", _CROWDS)
def test_a_store_that_fails_to_give_rights_costs_a_try_and_not_the_run(
    engine: str, begun: tuple[Cloud, Task, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, task, plan = begun
    failing = iter([False, True])

    def flaky(task: Task, chunk: Chunk) -> Task:
        if next(failing, False):
            raise RunFailed("the store answers 503 Server Busy")
        return limited(task, chunk)

    monkeypatch.setattr(handout, "limited", flaky)
    crowd = open_engine(engine, workers=2)
    outcomes = list(crowd.map(task, iter(plan.chunks[1:4]), lambda _: None))
    (failed,) = [one for one in outcomes if isinstance(one, Failed)]
    assert (failed.chunk, failed.error) == (2, "the store answers 503 Server Busy")
    assert failed.retriable
    assert sorted(one.chunk for one in outcomes if isinstance(one, Done)) == [1, 3]


@pytest.mark.parametrize("engine", _CROWDS)
def test_a_store_that_refuses_to_give_rights_ends_the_run_in_its_own_words(
    engine: str, begun: tuple[Cloud, Task, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, task, plan = begun

    def refuse(task: Task, chunk: Chunk) -> Task:
        if chunk.index == 2:
            raise RequestError("az://system gives no signatures for workers")
        return limited(task, chunk)

    monkeypatch.setattr(handout, "limited", refuse)
    crowd = open_engine(engine, workers=2)
    with pytest.raises(RequestError, match="gives no signatures"):
        list(crowd.map(task, iter(plan.chunks[1:4]), lambda _: None))
    assert not alive(crew())


def test_signing_for_many_chunks_opens_each_container_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[str] = []

    def count(container: str, access: Access, url: str) -> Any:
        opened.append(container)
        return backends.azure_backend(container, access, url)

    monkeypatch.setattr(grants, "azure_backend", count)
    key = base64.b64encode(bytes(64)).decode()
    places = [Access(url=f"az://{name}", account=name, key=key) for name in ("one", "two")]
    for number in range(10):
        narrow(places, reads=["az://one/a", "az://two/b"], writes=[f"az://two/{number}"])
    assert sorted(opened) == ["one", "two"]


def test_who_has_a_signature_only_hands_that_on(cloud: Cloud, blobs: servers.Azurite) -> None:
    name = cloud.system.url.removeprefix("az://")
    signed = replace(cloud.system, key=None, sas=blobs.sas("system", name))
    assert narrow([signed], reads=[f"{signed.url}/a"], writes=[]) == (signed,)


# --- TLS and Azure AD -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def by_identity(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Access]:
    """A container behind TLS that is opened by a bearer token, as Azure AD gives them."""
    import jwt

    now, tenant = int(time.time()), "ab1f708d-50f6-404c-a006-d71b2ac7a606"
    claims = {
        "iss": f"https://sts.windows.net/{tenant}/", "aud": "https://storage.azure.com",
        "nbf": now - 60, "iat": now - 60, "exp": now + 3600, "tid": tenant, "ver": "1.0",
        "oid": "23657296-5cd5-45b0-a809-d972a7f4dfe1",
    }  # fmt: skip
    with servers.azurite(tmp_path_factory.mktemp("secure"), tls=True) as server:
        owner = server.container("system", "secure")
        yield replace(owner, key=None, token=jwt.encode(claims, "k" * 32, algorithm="HS256"))


def test_an_identity_gives_user_delegation_signatures(by_identity: Access) -> None:
    store = open_store("az://secure", [by_identity])
    store.put("runs/a/plan.json", b"1")
    store.put("runs/b/plan.json", b"1")
    narrowed = narrow(
        [by_identity],
        reads=["az://secure/runs/a/plan.json"],
        writes=["az://secure/runs/a/segments/0.mkv"],
    )
    (access,) = narrowed
    assert access.token is None
    assert all("skoid=" in signature for _, signature in access.grants)
    worker = open_store("az://secure", narrowed)
    assert worker.get("runs/a/plan.json") == b"1"
    worker.put("runs/a/segments/0.mkv", b"2")
    with pytest.raises(RequestError, match=_REFUSED):
        worker.get("runs/b/plan.json")
    stolen = replace(access, sas=dict(access.grants)["az://secure/runs/a/plan.json"], grants=())
    with pytest.raises(RequestError, match="the credentials are refused"):
        open_store("az://secure", [stolen]).put("runs/a/plan.json", b"2")


def test_an_account_that_does_not_answer_may_answer_later(by_identity: Access) -> None:
    away = replace(by_identity, endpoint=f"https://127.0.0.1:{servers.free_port()}/system")
    with pytest.raises(RunFailed, match="gives no signatures for workers"):
        narrow([away], reads=["az://secure/runs/a/plan.json"], writes=[])


def test_a_server_that_nobody_known_vouches_for_is_not_talked_to(by_identity: Access) -> None:
    unknown = open_store("az://secure", [replace(by_identity, certificate=None)])
    with pytest.raises(RunFailed, match="its certificate is not trusted"):
        unknown.get("a")


# --- S3 ---------------------------------------------------------------------------------------


def test_a_role_is_taken_on_for_a_runs_objects(buckets: servers.S3) -> None:
    owner = replace(buckets.owner, role=buckets.role)
    store = open_store("s3://films/r", [buckets.owner])
    store.put("runs/a/plan.json", b"1")
    reads = [f"{store.url}/runs/a/plan.json"]
    first, second = (
        narrow([owner], reads=reads, writes=[f"{store.url}/runs/a/segments/{number}.mkv"])
        for number in range(2)
    )
    assert first == second  # a run's chunks share the answer
    (narrowed,) = first
    assert not {owner.key, owner.key_id} & {*narrowed.secrets, narrowed.key_id}
    worker = open_store(store.url, [narrowed])
    assert worker.get("runs/a/plan.json") == b"1"
    worker.put("runs/a/segments/0.mkv", b"2")


def test_two_places_with_roles_are_asked_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def give(access: Access, session_policy: str) -> Access:
        asked.append(f"{access.url} {'Put' in session_policy}")
        return replace(access, role=None, token=str(len(asked)))

    monkeypatch.setattr(aws, "_assume", give)
    monkeypatch.setattr(aws, "_assumed", {})
    places = [Access(url=f"s3://{name}", role="arn", key_id="a", key="b") for name in "mn"]
    for number in range(10):
        given = narrow(places, reads=["s3://m/film.mp4"], writes=[f"s3://n/run/{number}.mkv"])
        assert [access.token for access in given] == ["1", "2"]
    monkeypatch.setattr(aws, "_now", lambda: time.monotonic() + 1801)
    narrow(places[:1], reads=["s3://m/film.mp4"], writes=[])
    assert asked == ["s3://m False", "s3://n True", "s3://m False"]
    assert len(aws._assumed) == 1  # what is old is not kept


def test_a_role_that_is_refused_is_named_in_one_line(buckets: servers.S3) -> None:
    reader = replace(buckets.reader, role=buckets.role)
    with pytest.raises(Unavailable, match=r"the role 'arn:.*' is refused: .*not authorized") as no:
        narrow([reader], reads=[f"{reader.url}/a"], writes=[])
    assert "\n" not in str(no.value)


def test_who_gives_roles_and_does_not_answer_may_answer_later(buckets: servers.S3) -> None:
    away = f"http://127.0.0.1:{servers.free_port()}"
    owner = replace(buckets.owner, role=buckets.role, endpoint=away)
    with pytest.raises(RunFailed, match=r"the role 'arn:.*' is not given: Could not connect"):
        narrow([owner], reads=[f"{owner.url}/a"], writes=[])


def test_the_sessions_policy_names_the_objects_and_what_may_be_done() -> None:
    told = json.loads(policy(["s3://b/in/a.mp4"], ["s3://b/runs/x/segments/*"]))
    reading, writing = told["Statement"]
    assert (reading["Action"], reading["Resource"]) == (
        ["s3:GetObject"],
        ["arn:aws:s3:::b/in/a.mp4"],
    )
    assert writing["Resource"] == ["arn:aws:s3:::b/runs/x/segments/*"]
    assert "s3:PutObject" in writing["Action"]
    assert not any("Delete" in action or "*" in action for action in writing["Action"])
