"""The service on two storage accounts: a video arrives, the painted one comes back."""

from __future__ import annotations

from pathlib import Path

from impasto.run import score
from impasto.service.submissions import read_options
from impasto.stores import open_store
from painting import settings_in
from served import in_accounts, wait_for
from servers import Azurite

_WATCHED = (
    '[[serve.watch]]\nprefix = "in"\nmodel = "net.onnx"\nprecision = "f32"\nchunk_frames = 5\n'
    "[serve.triggers]\ninterval_s = 0.5\nsettle_s = 0.5\n"
)


def test_a_video_that_is_uploaded_comes_back_painted_though_the_service_is_killed(
    blobs: Azurite, tmp_path: Path
) -> None:
    media = blobs.container("media", "service-media")
    system = blobs.container("system", "service-system")
    served = in_accounts(tmp_path, media, system, config=_WATCHED)
    store = open_store(media.url, [media])
    for key in ("net.onnx", "in/a.mp4"):
        store.put(key, (served.media / key).read_bytes())
    try:
        served.start()
        runs = wait_for(lambda: served.ask("GET", "/v1/runs").json()["runs"])
        wait_for(lambda: served.run(runs[0]["run_id"])["state"] == "running", every_s=0.05)
        served.kill()
        served.start()
        run = served.ended(runs[0]["run_id"])
        assert run["state"] == "succeeded", run
        assert len(served.ask("GET", "/v1/runs").json()["runs"]) == 1
        score(
            served.media / "in/a.mp4",
            model=served.media / "net.onnx",
            target=tmp_path / "undisturbed.mp4",
            options=read_options({"precision": "f32", "chunk_frames": 5}),
            settings=settings_in(tmp_path),
        )
        assert store.get(run["target"]) == (tmp_path / "undisturbed.mp4").read_bytes()
        names = [entry.key for entry in store.list()]
        assert sorted(names) == sorted(["net.onnx", "in/a.mp4", run["target"]]), "no log, no plan"
    finally:
        assert served.stop() == 0
