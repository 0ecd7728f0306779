"""The service paints folders of frames, which a trigger file or a submission names."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

from PIL import Image

from frame_mark import draw_frame
from impasto.run import score
from impasto.service.submissions import read_options
from impasto.stores import open_store
from painting import settings_in, watch
from served import PLAIN, Served, in_accounts, wait_for
from servers import Azurite

_FRAMES = 20
_WATCHED = """[[serve.watch]]
prefix = "go"
model = "net.onnx"
precision = "f32"
chunk_frames = 5
[serve.triggers]
interval_s = 0.5
settle_s = 0.5
"""


def numbered(folder: Path) -> Path:
    """A folder of frames that carry their numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(_FRAMES):
        picture = Image.fromarray(draw_frame(number, 90, 160))
        picture.save(folder / f"frame_{number + 1}.png")
    return folder


def undisturbed(folder: Path, served: Served, work: Path) -> bytes:
    """What a run that nothing happens to makes of the same pictures."""
    work.mkdir()
    score(
        folder,
        model=served.media / "net.onnx",
        target=work / "out.mp4",
        options=read_options({**PLAIN, "rate": "24"}),
        settings=settings_in(work),
    )
    return (work / "out.mp4").read_bytes()


def test_a_trigger_file_has_a_folder_painted_once_though_the_service_is_killed(
    tmp_path: Path,
) -> None:
    served = Served(tmp_path, config=_WATCHED)
    frames = numbered(served.media / "shots/frames")
    try:
        served.start()
        (served.media / "go").mkdir()
        (served.media / "go/trigger.txt").write_text("shots/frames\nrate = 24\n")
        runs = wait_for(lambda: served.ask("GET", "/v1/runs").json()["runs"])
        wait_for(lambda: served.run(runs[0]["run_id"])["progress"]["stage"], every_s=0.02)
        served.kill()
        served.start()
        run = served.ended(runs[0]["run_id"])
        assert run["state"] == "succeeded", run
        assert (run["source"], run["origin"]) == ("shots/frames", "trigger_file")
        assert run["report"]["source"] == "shots/frames"
        assert run["target"] == "painted/shots/frames.net.mp4"
        times = watch(served.media / run["target"]).pts_s
        assert list(times) == [Fraction(number, 24) for number in range(_FRAMES)]
        assert (served.media / run["target"]).read_bytes() == undisturbed(
            frames, served, tmp_path / "alone"
        )
        (served.media / "go/trigger 2.txt").write_text("/shots/frames/\nrate: 24")
        again = PLAIN | {"rate": "24"}
        other = served.submit(source="shots/frames", target="other.mp4", options=again)
        assert served.ended(other)["state"] == "succeeded"
        assert len(served.ask("GET", "/v1/runs").json()["runs"]) == 2
        left = {entry.key for entry in open_store(str(served.media)).list()} - {
            f"shots/frames/{path.name}" for path in frames.iterdir()
        }
        assert left == {"in/a.mp4", "net.onnx", "go/trigger.txt", "go/trigger 2.txt", run["target"],
                        "other.mp4"}  # fmt: skip
        assert len(list((tmp_path / "system/sources").glob("*/video.mp4"))) == 1
    finally:
        assert served.stop() == 0


def test_a_folder_in_one_account_is_painted_with_its_video_in_the_other(
    blobs: Azurite, tmp_path: Path
) -> None:
    media = blobs.container("media", "frames-media")
    system = blobs.container("system", "frames-system")
    served = in_accounts(tmp_path, media, system, config=_WATCHED)
    frames, store = numbered(tmp_path / "frames"), open_store(media.url, [media])
    store.put("net.onnx", (served.media / "net.onnx").read_bytes())
    for path in frames.iterdir():
        store.put(f"shots/frames/{path.name}", path.read_bytes())
    store.put("shots/frames/notes.txt", b"not a frame")
    store.put("go/trigger-1.txt", f"{media.url}/shots/frames/\nrate = 24".encode())
    try:
        served.start()
        runs = wait_for(lambda: served.ask("GET", "/v1/runs").json()["runs"])
        run = served.ended(runs[0]["run_id"])
        assert run["state"] == "succeeded", run
        assert run["report"]["engine"] == "local", "its workers read the video by range"
        assert store.get(run["target"]) == undisturbed(frames, served, tmp_path / "alone")
        assert {entry.key for entry in store.list() if "frame_" not in entry.key} == {
            "net.onnx", "go/trigger-1.txt", "shots/frames/notes.txt", run["target"],
        }  # fmt: skip
        kept = [entry.key for entry in open_store(system.url, [system]).list("sources")]
        assert sorted(key.rpartition("/")[2].rpartition(".")[2] for key in kept) == [
            "json", "mp4", "reader",
        ]  # fmt: skip
    finally:
        assert served.stop() == 0


def test_a_folder_that_can_not_be_painted_is_a_failed_run_or_refused(tmp_path: Path) -> None:
    served = Served(tmp_path)
    frames = numbered(served.media / "frames")
    secret = tmp_path / "secret.png"
    secret.write_bytes((frames / "frame_1.png").read_bytes())
    numbered(served.media / "linked")
    (served.media / "linked/frame_99.png").symlink_to(secret)
    numbered(served.media / "spoilt")
    (served.media / "spoilt/frame_7.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    (served.media / "empty").mkdir()
    try:
        served.start()
        said = {
            "linked": "'linked/frame_99.png' is a link that leads out of the media store",
            "spoilt": "the picture 'spoilt/frame_7.png' can't be decoded",
        }
        for folder, says in said.items():
            run = served.ended(served.submit(source=folder))
            assert run["state"] == "failed"
            assert run["error"].startswith(says), run["error"]
        film = served.ended(served.submit(options=PLAIN | {"rate": "24"}))
        assert film["error"].startswith("a rate is for a folder of frames, and 'in/a.mp4' is none")
        bodies: list[tuple[dict[str, Any], str]] = [
            ({"source": "empty"}, "there is no 'empty'"),
            ({"source": "frames", "options": {"rate": "0"}}, "rate must lie between"),
            ({"source": "frames", "options": {"rate": "fast"}}, "rate"),
            ({"source": "frames/"}, "frames/"),
        ]
        for body, says in bodies:
            refused = served.ask("POST", "/v1/runs", json={"model": "net.onnx", **body})
            assert refused.status_code == 422
            assert says in refused.text
    finally:
        assert served.stop() == 0
