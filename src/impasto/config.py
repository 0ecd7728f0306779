"""Configuration: a TOML file and the environment become frozen Settings.

This is the only module that knows the names of environment variables, and it is handed the
environment: nothing below reads it. A variable wins over the file, the file over the default.

    styles      = "~/paintings"      # IMPASTO_STYLES       the user's own styles
    work        = "az://work/runs"   # IMPASTO_WORK         the system store, a path or URL

    [limits]                         # IMPASTO_MAX_PIXELS and so on
    max_pixels = 33_177_600
"""

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import platformdirs

from impasto.errors import RequestError
from impasto.records import Limits, Settings

PLACES = {"styles": "IMPASTO_STYLES", "work": "IMPASTO_WORK"}
"""Key of the file → environment variable, for everything that is a folder or a store."""

LIMITS = {field.name: f"IMPASTO_{field.name.upper()}" for field in dataclasses.fields(Limits)}


def load_settings(environ: Mapping[str, str], config_file: Path | None = None) -> Settings:
    """Settings from `config_file`, overridden by `environ`.

    Without `config_file` the file that IMPASTO_CONFIG names is read, or else config.toml in the
    user's configuration folder where there is one.

    Raises:
        RequestError: the file can't be read, has a key that means nothing, or a value is wrong.
    """
    path = config_file or _default_file(environ)
    table = {} if path is None else _read(path)
    base = Path() if path is None else path.parent
    places = {
        key: environ[variable] if environ.get(variable) else _place(table, key, base)
        for key, variable in PLACES.items()
    }
    cache = platformdirs.user_cache_path("impasto")
    data = platformdirs.user_data_path("impasto")
    return Settings(
        user_styles=Path(places["styles"] or data / "styles").expanduser(),
        system_store=_expanded(places["work"] or str(cache / "work")),
        limits=_limits(table.get("limits", {}), environ),
    )


def _default_file(environ: Mapping[str, str]) -> Path | None:
    if named := environ.get("IMPASTO_CONFIG"):
        return Path(named).expanduser()
    usual = platformdirs.user_config_path("impasto") / "config.toml"
    return usual if usual.is_file() else None


def _read(path: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(f"can't read the configuration {path}: {error.strerror}") from error
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError
        raise RequestError(f"the configuration {path} is not TOML: {error}") from error
    _only_known(table, {*PLACES, "limits"}, where=str(path))
    if not isinstance(table.get("limits", {}), dict):
        raise RequestError(f"{path}: limits must be a table [limits], got {table['limits']!r}")
    _only_known(table.get("limits", {}), set(LIMITS), where=f"{path} [limits]")
    return table


def _only_known(table: dict[str, Any], known: set[str], *, where: str) -> None:
    for key in table:
        if key not in known:
            raise RequestError(
                f"{where}: unknown key {key!r}; the keys are {', '.join(sorted(known))}"
            )


def _place(table: dict[str, Any], key: str, base: Path) -> str | None:
    """A folder or URL of the file; a relative folder counts from the file, not from the shell."""
    value = table.get(key)
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise RequestError(f"{key} must be a path or URL in quotes, got {value!r}")
    if "://" in value:
        return value
    return str(base / Path(value).expanduser())


def _expanded(store: str) -> str:
    return store if "://" in store else str(Path(store).expanduser())


def _limits(table: dict[str, Any], environ: Mapping[str, str]) -> Limits:
    chosen: dict[str, int] = {}
    for key, variable in LIMITS.items():
        if environ.get(variable):
            chosen[key] = _positive(environ[variable], name=variable)
        elif key in table:
            chosen[key] = _positive(table[key], name=key)
    return Limits(**chosen)


def _positive(value: object, *, name: str) -> int:
    wrong = RequestError(f"{name} must be a whole number above zero, got {value!r}")
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise wrong
    try:
        number = int(value)
    except ValueError:
        raise wrong from None
    if number < 1:
        raise wrong
    return number
