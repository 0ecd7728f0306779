"""What workers may do and know: their run's objects for some hours, and no account's key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import networks
from crew import crew
from impasto.config import load_settings
from impasto.records import Done, Event
from impasto.run import score
from painting import PLAIN, model_in, settings_in


@pytest.mark.parametrize("engine", ["local", "mpi"])
def test_workers_do_not_inherit_secrets(
    engine: str, media: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[stores."az://media"]\naccount = "paintings"\nkey_env = "MINE"\n')
    hidden = {"MINE": "s3cret", "AZURE_STORAGE_KEY": "s3cret", "AWS_SECRET_ACCESS_KEY": "s3cret"}
    for name, value in {**hidden, "OTHER": "plain"}.items():
        monkeypatch.setenv(name, value)
    seen: list[dict[str, str]] = []

    def look(event: Event) -> None:
        if isinstance(event, Done) and not seen:
            seen.extend(worker.environ() for worker in crew(all_ranks=True))

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
        assert "s3cret" not in environ.values()
