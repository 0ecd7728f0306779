"""A run among MPI ranks: which process is one, what each says, and what outlives a dead one."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

import media_maker
import networks
from crew import FORTY, alive, crew
from impasto.config import find_ranks, load_settings
from impasto.engines import follows, open_engine
from impasto.errors import RequestError, RunFailed
from impasto.records import Chunk, Done, Event, Report, Task
from impasto.request import Options
from impasto.run import ignore, score
from impasto.settle import fleet_of
from impasto.surroundings import Ranks, RayCluster, Surroundings
from painting import PLAIN, model_in, settings_in
from served import Served

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")

_MPIEXEC = str(Path(sysconfig.get_path("scripts")) / "mpiexec")
_FOURS = replace(PLAIN, chunk_frames=4)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ranks") / "forty.mp4"
    media_maker.make(FORTY, path)
    return path


@pytest.fixture(scope="module")
def undisturbed(film: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The target's bytes of a run in one process."""
    folder = tmp_path_factory.mktemp("undisturbed")
    _paint(film, folder, _FOURS)
    return (folder / "out.mp4").read_bytes()


def _paint(
    film: Path, folder: Path, options: Options, on_event: Callable[[Event], None] = ignore
) -> Report:
    return score(
        film,
        model=model_in(folder, networks.painterly()),
        target=folder / "out.mp4",
        options=options,
        settings=settings_in(folder),
        on_event=on_event,
    )


def _command(film: Path, folder: Path, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "impasto", "score", str(film),
        "--model", str(model_in(folder, networks.painterly())),
        "-o", str(folder / "out.mp4"), "--work", str(folder / "store"),
        "--chunk-frames", "4", "--precision", "f32", "--json", *more,
    ]  # fmt: skip


def _launch(ranks: int, command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [_MPIEXEC, "-n", str(ranks), *command],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


# --- which process is a rank ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, None),
        ({"PMI_RANK": "2", "PMI_SIZE": "4", "MPI_LOCALRANKID": "0"}, Ranks(2, 4, 0)),
        ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}, Ranks(1, 2, 1)),
        (
            {"PMI_RANK": "5", "PMI_SIZE": "8", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "4"},
            Ranks(5, 8, 1, 4),
        ),
        ({"PMIX_RANK": "0"}, Ranks(0, None, 0)),
        (
            {"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "1"},
            Ranks(3, 4, 1),
        ),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, None),  # a batch script, not yet srun
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, None),
        ({"PMI_RANK": "none"}, None),
    ],
)
def test_the_launcher_says_which_rank_a_process_is(
    environ: dict[str, str], found: Ranks | None
) -> None:
    assert find_ranks(environ) == found
    assert load_settings(environ).surroundings.ranks == found


def test_an_engine_of_its_own_keeps_a_rank_apart() -> None:
    second = Ranks(1, 4, 1)
    assert follows(None, None, second)
    assert follows("mpi", None, second)
    assert not follows("local", None, second)
    assert not follows(None, None, Ranks(0, 4, 0))
    assert not follows(None, None, Ranks(0, 1, 0))
    assert open_engine("inline", surroundings=Surroundings(second)).name == "inline"


def test_mpi_is_imported_by_its_ranks_only(film: Path, tmp_path: Path) -> None:
    script = (
        "import sys, impasto.api, impasto.engines.mpi, impasto.engines.ranks\n"
        "from impasto.engines import open_engine\n"
        "assert open_engine('mpi', workers=2).workers == 2\n"
        "print('mpi4py.MPI' in sys.modules)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert found.stdout == "False\n"


# --- what can't be started --------------------------------------------------------------------


def test_without_mpi4py_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec

    def without(name: str, *more: Any) -> Any:
        return None if name == "mpi4py" else find_spec(name, *more)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    with pytest.raises(RequestError, match=r"'mpi' needs: pip install 'impasto\[mpi\]'"):
        open_engine("mpi", workers=2)


@pytest.mark.parametrize(
    ("mpiexec", "error", "says"),
    [
        (("/nowhere/mpiexec",), RequestError, "can't start '/nowhere/mpiexec': No such file"),
        ((_MPIEXEC, "-hostfile", "/nowhere/hosts"), RunFailed, "can't be started: .*hosts"),
        (("false",), RunFailed, "can't be started: exit code 1"),
    ],
)
def test_ranks_that_can_not_be_started_are_one_line(
    mpiexec: tuple[str, ...], error: type[Exception], says: str, tmp_path: Path
) -> None:
    engine = open_engine("mpi", workers=2, surroundings=Surroundings(mpiexec=mpiexec))
    task = Task("nowhere", "film.mp4", str(tmp_path))
    with pytest.raises(error, match=says):
        list(engine.map(task, [Chunk(0, 0, 1, 0)], lambda _: None))


def test_the_command_that_starts_ranks_may_have_options() -> None:
    settings = load_settings({"IMPASTO_MPIEXEC": "mpiexec --hostfile 'my hosts'"})
    assert settings.surroundings.mpiexec == ("mpiexec", "--hostfile", "my hosts")
    with pytest.raises(RequestError, match="IMPASTO_MPIEXEC is no command"):
        load_settings({"IMPASTO_MPIEXEC": "mpiexec 'my"})


# --- ranks of one run -------------------------------------------------------------------------


def test_the_ranks_of_one_run_make_one_target_and_one_report(
    film: Path, tmp_path: Path, undisturbed: bytes
) -> None:
    found = _launch(3, _command(film, tmp_path), tmp_path)
    assert found.returncode == 0, found.stderr
    report = json.loads(found.stdout)
    assert (report["engine"], report["workers"], report["restarts"]) == ("mpi", 2, 0)
    assert report["verified"]
    assert (tmp_path / "out.mp4").read_bytes() == undisturbed


@pytest.mark.parametrize(
    ("engine", "workers", "around", "nodes", "sharing"),
    [
        ("local", 4, Surroundings(), 1, 4),
        ("mpi", 4, Surroundings(), 1, 4),  # a job of our own, on this machine
        ("mpi", 4, Surroundings(mpiexec=("mpiexec", "--hostfile", "hosts")), 4, 1),
        ("mpi", 8, Surroundings(Ranks(0, 9, 0)), 8, 1),
        ("mpi", 7, Surroundings(Ranks(0, 8, 0, 4)), 2, 4),
        ("mpi", 1, Surroundings(Ranks(0, 2, 0, 2)), 1, 1),
        ("ray", 4, Surroundings(), 1, 4),  # a cluster of our own, on this machine
        ("ray", 4, Surroundings(ray=RayCluster("head:6379")), 4, 1),
    ],
)
def test_computed_chunks_suit_the_machines_that_workers_are_on(
    engine: str, workers: int, around: Surroundings, nodes: int, sharing: int
) -> None:
    fleet = fleet_of(SimpleNamespace(name=engine, workers=workers), around, 0.5)
    assert (fleet.nodes, fleet.workers_per_node) == (nodes, sharing)
    assert fleet.preemptions_per_hour == 0.5


def test_a_rank_that_is_alone_does_everything_itself(
    film: Path, tmp_path: Path, undisturbed: bytes
) -> None:
    found = _launch(1, _command(film, tmp_path, "--engine", "mpi"), tmp_path)
    assert found.returncode == 0, found.stderr
    report = json.loads(found.stdout)
    assert (report["engine"], report["workers"]) == ("mpi", 1)
    assert (tmp_path / "out.mp4").read_bytes() == undisturbed


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--start", "99"], "no frame lies between"),
        (["--strength", "2"], "must lie between 0 and 1"),
        (["--nonsense"], "no such option"),
        (["--workers", "3"], "3 workers are more than the 2 ranks"),
    ],
)
def test_a_wrong_request_is_one_line_of_one_rank_and_two_on_all(
    more: list[str], says: str, film: Path, tmp_path: Path
) -> None:
    found = _launch(3, _command(film, tmp_path, "--quiet", *more), tmp_path)
    assert found.returncode == 2, found.stderr
    (line,) = found.stderr.splitlines()
    assert says in line
    assert json.loads(found.stdout)["exit_code"] == 2
    assert not (tmp_path / "out.mp4").exists()


def test_the_api_returns_the_same_report_on_every_rank(film: Path, tmp_path: Path) -> None:
    script = tmp_path / "paint.py"
    script.write_text(
        "import sys, pathlib\n"
        "from impasto import api\n"
        "report = api.score(sys.argv[1], model=sys.argv[2], target='out.mp4',\n"
        "    options=api.Options(precision='f32', work='store'))\n"
        "import os\n"
        "pathlib.Path(f'rank-{os.environ[\"PMI_RANK\"]}').write_text(report.run_id)\n"
    )
    model = str(model_in(tmp_path, networks.painterly()))
    found = _launch(2, [sys.executable, str(script), str(film), model], tmp_path)
    assert found.returncode == 0, found.stderr
    assert (tmp_path / "rank-0").read_text() == (tmp_path / "rank-1").read_text() != ""


# --- what outlives a dead one -----------------------------------------------------------------


def _killing(times: int) -> Callable[[Event], None]:
    """Kill a rank with SIGKILL as each of the first chunks is done."""
    left = times

    def hear(event: Event) -> None:
        nonlocal left
        if isinstance(event, Done) and left and (there := crew()):
            left -= 1
            there[-1].kill()

    return hear


def test_a_job_that_lost_a_rank_is_started_again_when_asked(
    film: Path, tmp_path: Path, undisturbed: bytes
) -> None:
    options = replace(_FOURS, engine="mpi", workers=2, restarts=2)
    report = _paint(film, tmp_path, options, _killing(1))
    assert report.restarts == 1
    assert any("started again (1 of 2)" in note for note in report.notes)
    assert report.chunks.retried <= 2
    assert (tmp_path / "out.mp4").read_bytes() == undisturbed


def test_a_job_that_lost_a_rank_goes_on_at_the_next_start(
    film: Path, tmp_path: Path, undisturbed: bytes
) -> None:
    options = replace(_FOURS, engine="mpi", workers=2)
    with pytest.raises(RunFailed, match="of 10 chunks done; begun again it goes on"):
        _paint(film, tmp_path, options, _killing(1))
    assert not (tmp_path / "out.mp4").exists()
    report = _paint(film, tmp_path, options)
    assert report.chunks.reused >= 1
    assert (report.restarts, report.chunks.retried) == (0, 0)
    assert (tmp_path / "out.mp4").read_bytes() == undisturbed


def _segments(folder: Path) -> list[Path]:
    return sorted((folder / "store").glob("runs/*/segments/*.mkv"))


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_ranks_end_with_the_process_that_started_them(
    sent: signal.Signals, film: Path, tmp_path: Path
) -> None:
    """Killed it leaves nobody behind; interrupted it ends in good order. Both are gone on with."""
    slow = ["--chunk-frames", "1", "--size", "512x512", "--end", "0.8"]
    command = _command(film, tmp_path, "--engine", "mpi", "--workers", "2", *slow)
    driver = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while driver.poll() is None and not _segments(tmp_path):
        time.sleep(0.02)
    there = [psutil.Process(driver.pid), *psutil.Process(driver.pid).children(recursive=True)]
    driver.send_signal(sent)
    driver.communicate()
    assert driver.returncode == (130 if sent == signal.SIGINT else -sent)
    assert alive(there[1:]) == []
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    report = json.loads(again.stdout)
    assert report["chunks"]["reused"] >= 1
    assert report["verified"]


def test_a_service_paints_with_this_engine_and_names_it(tmp_path: Path) -> None:
    served = Served(tmp_path, config='engine = "mpi"\nworkers = 2\n').start()
    try:
        run = served.ended(served.submit("out/a.mp4"))
        assert run["state"] == "succeeded", run
        assert (run["report"]["engine"], run["report"]["workers"]) == ("mpi", 2)
        (node,) = served.ask("GET", "/v1/nodes").json()["nodes"]
        assert node["engine"] == "mpi"
    finally:
        assert served.stop() == 0
