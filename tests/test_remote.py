"""Sources, targets and work in object stores: the same bytes as on local files, nothing leaked."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np
import pytest

import impasto
import media_maker
import media_table
import networks
import servers
from crew import SOUNDING
from impasto.access import Access
from impasto.errors import RequestError, RunFailed
from impasto.keys import run_id, to_json
from impasto.media.probe import probe
from impasto.plan import plan_chunks
from impasto.records import (
    Event,
    Failed,
    Plan,
    ScorerSpec,
    StageBegan,
    Task,
)
from impasto.request import Request, resolve
from impasto.run import score
from impasto.stores import Store, locate, open_store
from impasto.worker import model_key, score_chunk
from painting import PLAIN, model_in, paint, settings_in

_THREES = replace(PLAIN, chunk_frames=3)
_CHUNKS = 14
_numbers = itertools.count()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("remote") / "film.mp4"
    media_maker.make(SOUNDING, path)
    return path


@pytest.fixture(scope="module")
def undisturbed(film: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The target's bytes of a run on local files."""
    folder = tmp_path_factory.mktemp("undisturbed")
    model = model_in(folder, networks.painterly())
    score(film, model=model, target=folder / "out.mp4", options=_THREES,
          settings=settings_in(folder))  # fmt: skip
    return (folder / "out.mp4").read_bytes()


@dataclass(frozen=True, slots=True)
class Cloud:
    """A media and a system store of two accounts, a film in the first, and a shell that knows."""

    media: Store
    system: Store
    folder: Path
    environ: dict[str, str]
    secrets: tuple[str, ...]

    def command(self, *more: str) -> list[str]:
        model = model_in(self.folder, networks.painterly())
        return [
            sys.executable, "-m", "impasto", "score", f"{self.media.url}/in/film.mp4",
            "--model", str(model), "--chunk-frames", "3", "--precision", "f32", "--json", *more,
        ]  # fmt: skip

    def run(self, *more: str) -> subprocess.CompletedProcess[str]:
        return self.shell(self.command(*more))

    def shell(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            check=False,
        )

    def left_over(self) -> list[Path]:
        """What lies about on this machine beside the model."""
        return [path for path in self.folder.rglob("*")
                if path.is_file() and path.name not in {"identity.onnx", "c.toml"}]  # fmt: skip


@pytest.fixture
def cloud(blobs: servers.Azurite, film: Path, tmp_path: Path) -> Cloud:
    number = next(_numbers)
    media = blobs.container("media", f"films-{number}")
    system = blobs.container("system", f"runs-{number}")
    config = tmp_path / "c.toml"
    config.write_text(
        f'work = "{system.url}/work"\n'
        f'[stores."{media.url}"]\naccount = "media"\nendpoint = "{media.endpoint}"\n'
        'sas_env = "MEDIA_SAS"\n'
        f'[stores."{system.url}"]\naccount = "system"\nendpoint = "{system.endpoint}"\n'
        'key_env = "SYSTEM_KEY"\n'
    )
    sas = blobs.sas("media", f"films-{number}")
    assert system.key
    (tmp_path / "tmp").mkdir()
    environ = {
        **os.environ, "IMPASTO_CONFIG": str(config), "MEDIA_SAS": sas, "SYSTEM_KEY": system.key,
        "TMPDIR": str(tmp_path / "tmp"),
    }  # fmt: skip
    store = open_store(media.url, [media])
    store.put("in/film.mp4", film.read_bytes())
    signature = sas.rpartition("sig=")[2]
    secrets = (sas, signature, system.key, blobs.keys["media"])
    work = open_store(f"{system.url}/work", [system])
    return Cloud(store, work, tmp_path, environ, secrets)


# --- from store to store ----------------------------------------------------------------------


_CREWS = [("inline", 1), ("local", 2), ("mpi", 2), ("ray", 2)]


@pytest.mark.parametrize(("engine", "workers"), _CREWS)
def test_a_run_from_store_to_store_gives_the_bytes_of_a_local_one(
    engine: str, workers: int, cloud: Cloud, undisturbed: bytes
) -> None:
    target = f"{cloud.media.url}/out/film.mp4"
    done = cloud.run("-o", target, "--engine", engine, "--workers", str(workers), "--keep")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["verified"]
    assert report["target"] == target
    assert report["chunks"]["total"] == _CHUNKS
    assert cloud.media.get("out/film.mp4") == undisturbed
    assert [entry.key for entry in cloud.media.list("out")] == ["out/film.mp4"]
    assert sum(entry.key.endswith(".mkv") for entry in cloud.system.list()) == _CHUNKS
    kept = [cloud.system.get(entry.key) for entry in cloud.system.list()]
    told = [*kept, done.stdout.encode(), done.stderr.encode()]
    assert not [secret for secret in cloud.secrets for text in told if secret.encode() in text]
    assert cloud.left_over() == []


def test_a_run_goes_from_one_provider_to_another(
    cloud: Cloud, buckets: servers.S3, undisturbed: bytes
) -> None:
    owner = buckets.owner
    assert owner.key
    config = cloud.folder / "c.toml"
    config.write_text(
        config.read_text() + f'[stores."{owner.url}"]\nendpoint = "{owner.endpoint}"\n'
        f'region = "us-east-1"\nkey_id = "{owner.key_id}"\nkey_env = "FILMS_KEY"\n'
    )
    cloud.environ["FILMS_KEY"] = owner.key
    folder = f"s3://films/out-{next(_numbers)}"
    target = f"{folder}/film.mp4"
    more = ("-o", target, "--engine", "local", "--workers", "1", "--work", f"{folder}/work")
    done = cloud.run(*more)
    assert done.returncode == 0, done.stderr
    assert open_store(folder, [owner]).get("film.mp4") == undisturbed
    again = cloud.run(*more)
    assert again.returncode == 2
    assert "exists; --force overwrites it" in again.stderr


def test_a_killed_run_goes_on_from_the_store(cloud: Cloud, undisturbed: bytes) -> None:
    target = f"{cloud.media.url}/out/film.mp4"
    more = ("-o", target, "--engine", "local", "--workers", "1")
    first = subprocess.Popen(
        cloud.command(*more), cwd=cloud.folder, env=cloud.environ, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while first.poll() is None and len(_segments(cloud)) < 2:
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait()
    finished = len(_segments(cloud))
    assert finished >= 2
    assert not cloud.media.exists("out/film.mp4")
    impasto_runs = [sys.executable, "-m", "impasto", "runs"]
    (run,) = json.loads(cloud.shell([*impasto_runs, "list", "--json"]).stdout)["runs"]
    assert run["source"] == f"{cloud.media.url}/in/film.mp4"
    again = cloud.shell([*impasto_runs, "resume", run["run_id"], "--json"])
    assert again.returncode == 0, again.stderr
    report = json.loads(again.stdout)
    assert report["chunks"]["reused"] >= finished  # a worker may have finished one more
    assert cloud.media.get("out/film.mp4") == undisturbed
    assert _segments(cloud) == []


def _segments(cloud: Cloud) -> list[str]:
    return [entry.key for entry in cloud.system.list("runs") if entry.key.endswith(".mkv")]


def test_the_target_stands_beside_the_source_and_is_not_overwritten(cloud: Cloud) -> None:
    first = cloud.run("--engine", "inline")
    assert first.returncode == 0, first.stderr
    beside = f"{cloud.media.url}/in/film.identity.mp4"
    assert json.loads(first.stdout)["target"] == beside
    before = cloud.media.head("in/film.identity.mp4").etag
    second = cloud.run("--engine", "inline")
    assert second.returncode == 2
    assert f"'{beside}' exists; --force overwrites it" in second.stderr
    third = cloud.run("--engine", "inline", "-o", f"{cloud.media.url}/in/film.mp4", "--force")
    assert third.returncode == 2
    assert "is a source itself" in third.stderr
    assert cloud.media.head("in/film.identity.mp4").etag == before
    assert cloud.run("--engine", "inline", "--force").returncode == 0
    assert cloud.media.head("in/film.identity.mp4").etag != before


@pytest.mark.parametrize(
    ("source", "code", "says"),
    [
        ("in/absent.mp4", 2, "can't read 'az://films-{}/in/absent.mp4': there is no 'absent.mp4'"),
        ("in/text.mp4", 2, "is not a video that Impasto opens"),
        ("in/", 2, "holds no pictures"),
        ("", 2, "names no object"),
        ("in/film.mp4?sig=SECRET", 2, "must not carry a password, key or signature"),
    ],
)
def test_a_source_that_can_not_be_is_refused_in_one_line(
    source: str, code: int, says: str, cloud: Cloud
) -> None:
    cloud.media.put("in/text.mp4", b"no film at all" * 1000)
    command = [sys.executable, "-m", "impasto", "probe", f"{cloud.media.url}/{source}", "--json"]
    found = cloud.shell(command)
    assert found.returncode == code
    (line,) = found.stderr.splitlines()
    assert says.format(cloud.media.url.rpartition("-")[2]) in line
    assert "SECRET" not in line + found.stdout
    assert json.loads(found.stdout)["exit_code"] == code


def test_every_command_takes_urls(cloud: Cloud, film: Path) -> None:
    cloud.media.put("out/film.mp4", film.read_bytes())
    source, target = f"{cloud.media.url}/in/film.mp4", f"{cloud.media.url}/out/film.mp4"
    sheet, beside = f"{cloud.media.url}/sheet.png", f"{cloud.media.url}/beside.mp4"
    for words in (
        ["probe", source],
        ["verify", source, target],
        ["preview", source, "--styles", "starry_night", "--quality", "fast", "--frames", "1",
         "-o", sheet],
        ["compare", source, target, "-o", beside],
        ["estimate", source, "--style", "starry_night", "--quality", "fast"],
        ["runs", "list"],
        ["runs", "clean", "--all"],
        ["doctor"],
    ):  # fmt: skip
        command = [sys.executable, "-m", "impasto", *words, "--json"]
        found = subprocess.run(
            command, env=cloud.environ, capture_output=True, text=True, check=False
        )
        assert found.returncode == 0, (words, found.stderr)
        json.loads(found.stdout)
    assert cloud.media.get("sheet.png").startswith(b"\x89PNG")
    assert cloud.media.head("beside.mp4").bytes > 0
    assert cloud.left_over() == []


def test_the_doctor_says_whether_the_work_store_is_reached(cloud: Cloud) -> None:
    command = [sys.executable, "-m", "impasto", "doctor"]
    well = cloud.shell(command)
    assert (well.returncode, well.stderr) == (0, "")
    assert f"{cloud.system.url}, reachable" in " ".join(well.stdout.split())
    cloud.environ["SYSTEM_KEY"] = "d3Jvbmcga2V5"
    ill = cloud.shell(command)
    assert ill.returncode == 1
    (line,) = ill.stderr.splitlines()
    assert "the credentials are refused" in line
    assert "d3Jvbmcga2V5" not in ill.stdout + line


def test_the_api_takes_urls(cloud: Cloud, film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in cloud.environ.items():
        monkeypatch.setenv(name, value)
    source = f"{cloud.media.url}/in/film.mp4"
    assert impasto.probe(source) == probe(film)
    cloud.media.put("twin.mp4", film.read_bytes())
    assert all(check.ok for check in impasto.verify(source, f"{cloud.media.url}/twin.mp4"))


def test_a_model_in_a_store_is_used_there(film: Path, tmp_path: Path) -> None:
    store = open_store("memory://models")
    store.put("net.onnx", networks.identity())
    locally = paint(film, tmp_path, target=tmp_path / "a.mp4")
    report = score(
        film, model="memory://models/net.onnx", target=tmp_path / "b.mp4", options=PLAIN,
        settings=settings_in(tmp_path),
    )  # fmt: skip
    assert report.scorer == "net"
    assert locally.verified
    assert report.verified
    with pytest.raises(RequestError, match=r"can't read the model 'memory://models/no\.onnx'"):
        score(film, model="memory://models/no.onnx", settings=settings_in(tmp_path))


def test_a_picture_in_a_store_is_painted_there(tmp_path: Path) -> None:
    from impasto.media.still import encode_png

    store = open_store("memory://pictures")
    store.put("in/a.png", encode_png(np.full((32, 48, 3), 90, np.uint8)))
    options = replace(PLAIN, chunk_frames=None)
    report = paint(locate("memory://pictures/in/a.png"), tmp_path, options=options)
    assert report.target == "memory://pictures/in/a.identity.png"
    assert store.get("in/a.identity.png").startswith(b"\x89PNG")


# --- every kind of file -----------------------------------------------------------------------


@pytest.mark.parametrize("case", media_table.CASES, ids=lambda case: case.name)
def test_any_file_is_the_same_by_url(
    case: media_table.MediaCase, media: Callable[[str], Path]
) -> None:
    path = media(case.name)
    store = open_store("memory://table")
    store.put(path.name, path.read_bytes())
    assert probe(locate(f"memory://table/{path.name}")) == probe(path)


# --- what changes meanwhile -------------------------------------------------------------------


def _when(stage: str, act: Callable[[], object]) -> Callable[[Event], None]:
    def hear(event: Event) -> None:
        if event == StageBegan(stage):
            act()

    return hear


@pytest.mark.parametrize("stage", ["plan", "score", "stitch", "verify"])
@pytest.mark.parametrize("engine", ["inline", "local"])
def test_a_source_that_changes_is_a_clear_failure(
    engine: str, stage: str, film: Path, tmp_path: Path, cloud: Cloud
) -> None:
    def change() -> None:
        cloud.media.put("in/film.mp4", film.read_bytes() + b"!")

    settings = replace(settings_in(tmp_path), access=_access(cloud))
    with pytest.raises(RunFailed, match=r"changed (while it was read|during the run)"):
        score(
            f"{cloud.media.url}/in/film.mp4",
            model=model_in(tmp_path, networks.painterly()),
            target=f"{cloud.media.url}/out.mp4",
            options=replace(_THREES, engine=engine, workers=1),
            settings=settings,
            on_event=_when(stage, change),
        )
    assert not cloud.media.exists("out.mp4")


def _access(cloud: Cloud) -> tuple[Access, ...]:
    assert cloud.media.access is not None
    return (cloud.media.access,)


def test_a_target_that_appears_meanwhile_is_kept(film: Path, tmp_path: Path) -> None:
    store = open_store("memory://meanwhile")
    target = locate("memory://meanwhile/out.mp4")
    with pytest.raises(RequestError, match=r"out\.mp4' exists"):
        paint(film, tmp_path, target=target,
              on_event=_when("verify", lambda: store.put("out.mp4", b"mine")))  # fmt: skip
    assert store.get("out.mp4") == b"mine"
    assert [entry.key for entry in store.list()] == ["out.mp4"]


def test_a_target_is_not_seen_before_it_is_proven(film: Path, tmp_path: Path) -> None:
    store = open_store("memory://unseen")
    seen: list[str] = []

    def look(_: Event) -> None:
        seen.extend(entry.key for entry in store.list())

    paint(film, tmp_path, target=locate("memory://unseen/out.mp4"), on_event=look)
    assert seen == []
    assert store.exists("out.mp4")


def test_what_a_killed_process_left_of_a_target_goes_with_the_next(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    target = locate("memory://left/out.mp4")

    def look(event: Event) -> None:
        if event == StageBegan("stitch"):
            (folder,) = tmp_path.glob("impasto-*")
            mark, number, _ = folder.name.rsplit("-", 2)
            assert number == str(os.getpid())
            (tmp_path / f"{mark}-999999999-x").mkdir()

    paint(film, tmp_path / "work", target=target, on_event=look)
    assert len(list(tmp_path.glob("impasto-*"))) == 1
    paint(film, tmp_path / "work", target=target, options=replace(PLAIN, force=True))
    assert list(tmp_path.glob("impasto-*")) == []


@pytest.mark.parametrize("place", ["source", "work"])
def test_memory_is_for_one_process(place: str, film: Path, tmp_path: Path) -> None:
    source = locate("memory://alone/film.mp4") if place == "source" else film
    options = replace(PLAIN, engine="local", work="memory://alone" if place == "work" else None)
    with pytest.raises(RequestError, match="in the memory of this process alone"):
        paint(source, tmp_path, options=options)


# --- what a worker reads ----------------------------------------------------------------------

_HUNDRED = 100
_FRAMES_A_CHUNK = 5


@pytest.fixture(scope="module", params=["mp4", "mkv"])
def noise(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of noise, so that it is large, with its index at its end."""
    path = tmp_path_factory.mktemp("noise") / f"noise.{request.param}"
    dice = np.random.default_rng(1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        stream.codec_context.gop_size = _FRAMES_A_CHUNK
        stream.codec_context.options = {"preset": "ultrafast", "crf": "18"}
        for pts in range(_HUNDRED * _FRAMES_A_CHUNK):
            picture = dice.integers(0, 255, (180, 320, 3), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = pts
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run of a hundred chunks, whose source is read through a counter."""

    plan: Plan
    task: Task

    def score(self, index: int) -> None:
        outcome = score_chunk(self.task, self.plan.chunks[index])
        assert not isinstance(outcome, Failed), outcome.log
        assert outcome.frames == _FRAMES_A_CHUNK


def _prepare(film: Path, source: str, folder: Path, access: tuple[Access, ...] = ()) -> Prepared:
    store = open_store(str(folder / "store"))
    model = networks.identity()
    scorer = ScorerSpec("identity", hashlib.sha256(model).hexdigest())
    options = replace(PLAIN, chunk_frames=_FRAMES_A_CHUNK)
    probed = probe(film)
    spec = resolve(Request(film, folder / "out.mp4", scorer, {}, options), probed).spec
    chunks = plan_chunks(
        probed.ledger, start=0, stop=len(probed.ledger), chunk_frames=_FRAMES_A_CHUNK
    )
    assert len(chunks) == _HUNDRED
    plan = Plan(spec, probed, chunks, "f32", None)
    store.put(model_key(scorer), model)
    store.put(f"runs/{run_id(spec)}/plan.json", to_json(plan))
    return Prepared(plan, Task(run_id(spec), source, store.url, access=access))


@pytest.mark.parametrize("index", [0, 50, 99])
def test_a_worker_on_one_of_a_hundred_chunks_reads_little(
    index: int, noise: Path, blobs: servers.Azurite, tmp_path: Path
) -> None:
    access = blobs.container("media", f"noise-{next(_numbers)}")
    open_store(access.url, [access]).put(noise.name, noise.read_bytes())
    with servers.counting(blobs.port) as counted:
        through = replace(access, endpoint=f"http://127.0.0.1:{counted.port}/media")
        source = f"{access.url}/{noise.name}"
        prepared = _prepare(noise, source, tmp_path, (through,))
        prepared.score(index)
        size = noise.stat().st_size
        chunk = size / _HUNDRED
        assert chunk / 2 < counted.received < 0.05 * size
        before = counted.received
        prepared.score((index + 7) % _HUNDRED)  # the index of the file is kept
        assert counted.received - before < 0.04 * size


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_a_worker_reads_as_little_of_a_local_file(noise: Path, tmp_path: Path) -> None:
    prepared = _prepare(noise, str(noise), tmp_path)
    prepared.score(0)  # all libraries are loaded, and the network is compiled
    read = _bytes_read()
    prepared.score(50)
    assert _bytes_read() - read < 0.05 * noise.stat().st_size


def _bytes_read() -> int:
    """Bytes that this process has read from anything."""
    return int(Path("/proc/self/io").read_text().split()[1])
