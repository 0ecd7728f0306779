"""What configuration decides, once it is read: frozen values."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from impasto.access import Access
from impasto.fleet import Price
from impasto.surroundings import Surroundings


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a stranger's file may ask for at most; checked before anything is decoded."""

    max_pixels: int = 8192 * 4352  # per frame: DCI 8K with room for coding blocks
    max_frames: int = 5_000_000
    max_streams: int = 64
    max_duration_s: int = 24 * 3600
    max_bytes: int = 1 << 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What configuration decides: folders, stores and limits."""

    user_styles: Path
    system_store: str
    """URL or path of the system store."""
    limits: Limits = Limits()
    surroundings: Surroundings = Surroundings()  # noqa: RUF009 - frozen
    cache: Path | None = None
    """Where fetched networks are kept; None fetches nothing."""
    perceptual: str | None = None
    """Name or path of the network that judges trainings; None for the default."""
    prices: dict[str, Price] = field(default_factory=dict)
    access: tuple[Access, ...] = ()
    """Credentials of stores, by URL."""
    server: str | None = None
    """URL of the service that commands are for; None for this machine."""
    serve: dict[str, Any] = field(default_factory=dict)
    """The table [serve] as it stands in the file; `impasto.service.settings` reads it."""
