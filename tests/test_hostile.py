"""A stranger's file opens nothing but itself, takes no memory, and is refused in one line."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread

import av
import numpy as np
import pytest

import hostile_media
from impasto.errors import RequestError, SourceRefused
from impasto.media.probe import probe
from impasto.media.verify import verify
from impasto.settings import Limits
from impasto.stores import locate, open_store
from painting import PLAIN, PRINT_PEAK_MB, paint, watch

Hostile = Callable[..., Path]
Media = Callable[[str], Path]

_REFUSED = [one for one in hostile_media.HOSTILE if one.name != "lying_size"]
_OBJECTS = [one for one in _REFUSED if one.name != "directory"]  # which a store has none of
_SAYS = {
    "directory": "holds no pictures",
    "sound_only": "has no video stream",
    "many_streams": "over the limit of 64 \\(max_streams\\)",
    "bomb": "max_pixels",
    "too_big": "max_pixels",
}
_BOMB_MB = 400
"""One of its pictures in RGB is 768 MB, and the interpreter with its libraries about 150."""


@pytest.fixture
def port() -> Iterator[tuple[int, Event]]:
    """A listening port on the loopback address, and whether anybody called."""
    called = Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen() -> None:
            connection, _ = server.accept()
            called.set()
            connection.close()

        Thread(target=listen, daemon=True).start()
        number = server.getsockname()[1]
        yield number, called
        socket.create_connection(("127.0.0.1", number)).close()


@pytest.mark.parametrize("one", _REFUSED, ids=lambda one: one.name)
def test_a_hostile_file_is_refused_in_one_line(
    one: hostile_media.HostileFile, hostile: Hostile, tmp_path: Path, port: tuple[int, Event]
) -> None:
    path = hostile(one.name, port=port[0])
    with pytest.raises(SourceRefused, match=_SAYS.get(one.name, "is not a video")) as refusal:
        paint(path, tmp_path / "work")
    assert "\n" not in str(refusal.value)
    assert path.name in str(refusal.value)
    assert not port[1].is_set()
    assert not list(tmp_path.glob("*.identity.*"))


@pytest.mark.parametrize("one", _OBJECTS, ids=lambda one: one.name)
def test_a_hostile_file_is_refused_by_url_too(
    one: hostile_media.HostileFile, hostile: Hostile, tmp_path: Path, port: tuple[int, Event]
) -> None:
    path = hostile(one.name, port=port[0])
    store = open_store(f"memory://hostile-{one.name}/in")
    for beside in tmp_path.iterdir():
        if beside.is_file():
            store.put(beside.name, beside.read_bytes())
    film = locate(f"{store.url}/{path.name}")
    with pytest.raises(SourceRefused, match=_SAYS.get(one.name, "is not a video")) as refusal:
        paint(film, tmp_path / "work")
    assert "\n" not in str(refusal.value)
    assert str(film) in str(refusal.value)
    assert not port[1].is_set()
    assert len(list(store.list())) == sum(beside.is_file() for beside in tmp_path.iterdir())


def test_a_url_can_not_make_a_reader_follow_names(hostile: Hostile, tmp_path: Path) -> None:
    """A playlist from a store, with the bait where its name would lead on this machine."""
    path = hostile("concat_script")
    store = open_store(f"memory://names{tmp_path}")
    store.put(path.name, path.read_bytes())
    with pytest.raises(SourceRefused, match="is not a video"):
        probe(locate(f"{store.url}/{path.name}"))


def test_a_lying_size_is_refused_or_read_at_its_true_size(hostile: Hostile) -> None:
    with contextlib.suppress(SourceRefused):
        source = probe(hostile("lying_size"))
        assert (source.width, source.height) == (192, 108)


def test_no_decoder_off_the_list_is_opened_not_even_for_the_header(tmp_path: Path) -> None:
    path = tmp_path / "rare.avi"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("flv", rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        for packet in (*stream.encode(frame), *stream.encode(None)):
            output.mux(packet)
    before = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with (
            av.logging.Capture() as told,
            pytest.raises(SourceRefused, match="holds flv, which Impasto does not decode"),
        ):
            probe(path)
    finally:
        av.logging.set_level(before)
    assert any("Codec (flv) not on whitelist" in line for _, _, line in told)


_PROBE = """
import sys
from pathlib import Path
from impasto.errors import SourceRefused
from impasto.media.probe import probe
try:
    probe(Path(sys.argv[1]))
except SourceRefused:
    print("refused")
"""
"""A process that is shown one file."""


@pytest.mark.parametrize("name", ["concat_script", "playlist_as_mp4", "playlist_by_url"])
def test_the_bait_is_never_read(name: str, hostile: Hostile, tmp_path: Path) -> None:
    path = hostile(name)
    bait = path.parent / hostile_media.BAIT
    bait.unlink()
    bait.symlink_to(bait.parent / "fifo")
    # Whoever opens a pipe that nobody writes to waits for ever; the time limit ends the test.
    os.mkfifo(bait.parent / "fifo")
    command = [sys.executable, "-c", _PROBE, str(path)]
    found = subprocess.run(command, capture_output=True, check=True, text=True, timeout=60)
    assert found.stdout.strip() == "refused"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
@pytest.mark.parametrize("name", ["bomb", "too_big", "lying_size"])
def test_a_bomb_takes_no_memory(name: str, hostile: Hostile) -> None:
    found = subprocess.run(
        [sys.executable, "-c", _PROBE + PRINT_PEAK_MB, str(hostile(name))],
        capture_output=True,
        check=True,
        text=True,
    )
    # One whose container lies about its size may be painted: the stream itself is small.
    assert int(found.stdout.split()[-1]) < _BOMB_MB


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        (Limits(max_bytes=1000), "max_bytes"),
        (Limits(max_frames=10), "max_frames"),
        (Limits(max_pixels=1000), "not a video|max_pixels"),
        (Limits(max_streams=1), "max_streams"),
        (Limits(max_duration_s=1), "max_duration_s"),
    ],
)
def test_every_limit_binds_and_names_itself(limits: Limits, says: str, media: Media) -> None:
    with pytest.raises(SourceRefused, match=says):
        probe(media("cfr_24"), limits)


def test_a_limit_can_be_raised(hostile: Hostile) -> None:
    with pytest.raises(SourceRefused):
        probe(hostile("many_streams"))
    assert len(probe(hostile("many_streams"), Limits(max_streams=200)).streams) == 101


def test_verify_refuses_what_it_can_not_read(media: Media, hostile: Hostile) -> None:
    with pytest.raises(SourceRefused):
        verify(media("one_frame"), hostile("text"))
    with pytest.raises(SourceRefused):
        verify(hostile("playlist_as_mp4"), media("one_frame"))


# --- names ------------------------------------------------------------------------------------

_NAMES = [
    "two  spaces.mp4",
    'it\'s "quoted".mp4',
    "-i.mp4",
    "--force.mp4",
    "a\nb.mp4",
    "..mp4",
    "...mp4",
    "x..y.mp4",
    "günther 夜明け 🎨.mp4",
    "frame%d.mp4",
    "%05d.mp4",
    "concat:x.mp4",
    "file:x.mp4",
    "http:x.mp4",
    "$(touch pwned).mp4",
    ";ls;.mp4",
    "a?b=c&d#e.mp4",
    "*.mp4",
    "[1].mp4",
    "back\\slash.mp4",
    "é" * 120 + ".mp4",
]


@pytest.mark.parametrize("name", _NAMES, ids=ascii)
def test_any_file_name_works_from_end_to_end(
    name: str, media: Media, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    monkeypatch.chdir(folder)
    shutil.copyfile(media("one_frame"), folder / name)
    target = tmp_path / "out.mp4"
    paint(Path(name), tmp_path / "work", target=target)
    assert watch(target).numbers == [0]
    options = replace(PLAIN, force=True)
    copy = folder / f"to {name}" if len(name) < 100 else folder / name[1:]
    paint(target, tmp_path / "work", target=Path(copy.name), options=options)
    assert watch(copy).numbers == [0]
    assert sorted(folder.iterdir()) == sorted([folder / name, copy])


@pytest.mark.parametrize(
    "name", ["..", "", "nul\0.mp4", "missing.mp4", "no/such/folder.mp4", "x" * 300 + ".mp4"],
    ids=lambda name: ascii(name)[:20],
)  # fmt: skip
def test_a_name_that_is_no_file_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    with pytest.raises(SourceRefused) as refusal:
        paint(tmp_path / name, tmp_path / "work")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "name", ["no/folder.mp4", "x" * 300 + ".mp4", "noextension", "a.xyz", "folder.mp4", "a.avi"],
    ids=lambda name: name[:20],
)  # fmt: skip
def test_a_target_that_can_not_be_is_refused_before_anything_is_scored(
    name: str, media: Media, tmp_path: Path
) -> None:
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(RequestError) as refusal:
        paint(media("one_frame"), tmp_path / "work", target=tmp_path / name)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "work" / "store" / "runs").exists()


def test_a_source_whose_name_leaves_no_room_for_the_style_is_refused(
    media: Media, tmp_path: Path
) -> None:
    source = tmp_path / ("x" * 251 + ".mp4")
    shutil.copyfile(media("one_frame"), source)
    with pytest.raises(RequestError, match="can't write"):
        paint(source, tmp_path / "work")
