"""Configuration: a TOML file and the environment become frozen Settings.

This is the only module that knows the names of environment variables, and it is handed the
environment: nothing below reads it. A variable wins over the file, the file over the default.

    styles      = "~/paintings"      # IMPASTO_STYLES       the user's own styles
    work        = "az://work/runs"   # IMPASTO_WORK         the system store, a path or URL
    perceptual  = "vgg19"            # IMPASTO_PERCEPTUAL   what judges trainings: a name or a path
    server      = "https://…"        # IMPASTO_SERVER       the service that commands are for
    token_file  = "~/.impasto-token" # IMPASTO_TOKEN_FILE   holds the token for it
    ray_address = "head:6379"        # RAY_ADDRESS          the Ray cluster, for --engine ray,
                                     #                      or its http:// URL, for submit

    [limits]                         # IMPASTO_MAX_PIXELS and so on
    max_pixels = 33_177_600

    [stores."az://media"]            # credentials, see `accounts`; also AZURE_STORAGE_…, AWS_…
    account = "paintings"
    sas_env = "MEDIA_SAS"

    [prices]                         # of a machine, for --price small or --price small:spot
    small = {per_hour = 0.5, spot_per_hour = 0.1}

    [serve]                          # of `impasto serve`; see docs/service.md

By the environment alone: IMPASTO_TOKEN, the token itself; IMPASTO_MPIEXEC, the command that starts
MPI ranks, with its own options; IMPASTO_RAY_WAIT_S, the seconds that a run waits for a first or
another worker of a Ray cluster; IMPASTO_SCHEDULED_EVENTS, who announces that this machine goes: a
URL, "off", or "auto" for Azure's endpoint where there is one; and what mpiexec and srun say to each
process that they start.
"""

import dataclasses
import math
import shlex
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import platformdirs

from impasto.accounts import load_access, named_variables
from impasto.errors import RequestError
from impasto.fleet import Price
from impasto.settings import Limits, Settings
from impasto.surroundings import RAY_WAIT_S, SECRETS, Ranks, RayCluster, Surroundings

PLACES = {"styles": "IMPASTO_STYLES", "work": "IMPASTO_WORK"}
"""Key of the file → environment variable, for everything that is a folder or a store."""

_LAUNCHERS = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),
    ("PMIX_RANK", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
)
"""Variables that hold rank, size and rank on the machine, of Open MPI, of MPICH and Intel MPI, and
of Slurm; the first that is set counts."""
_LOCAL_SIZES = ("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS")
"""How many ranks are on the machine; Slurm's variables tell it for all machines at once."""

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
        surroundings=Surroundings(
            ranks=find_ranks(environ),
            mpiexec=_command(environ, "IMPASTO_MPIEXEC"),
            ray=_ray(table, environ),
            scheduled_events=_endpoint(environ, "IMPASTO_SCHEDULED_EVENTS"),
            hidden=SECRETS | named_variables(table.get("stores", {})),
        ),
        cache=cache,
        perceptual=environ.get("IMPASTO_PERCEPTUAL") or _perceptual(table, base),
        prices=_prices(table.get("prices", {})),
        access=load_access(table.get("stores", {}), environ, base),
        serve=_serve(table.get("serve", {}), base),
        server=environ.get("IMPASTO_SERVER") or _text(table, "server"),
    )


def load_token(environ: Mapping[str, str], config_file: Path | None = None) -> str | None:
    """The token for a service: IMPASTO_TOKEN, or what stands in the file that is named for it.

    It is no part of the settings: they are handed around, and a secret is better asked for.

    Raises:
        RequestError: the file can't be read.
    """
    if token := environ.get("IMPASTO_TOKEN"):
        return token.strip()
    path = config_file or _default_file(environ)
    table = {} if path is None else _read(path)
    named = environ.get("IMPASTO_TOKEN_FILE") or _text(table, "token_file")
    if named is None:
        return None
    base = Path() if path is None else path.parent
    file = base / Path(named).expanduser()
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it holds more than a token"
        raise RequestError(f"can't read the token in {str(file)!r}: {reason}") from error


def _text(table: dict[str, Any], key: str) -> str | None:
    value = table.get(key)
    if value is not None and (not isinstance(value, str) or not value):
        raise RequestError(f"{key} must be a text in quotes, got {value!r}")
    return value


def find_ranks(environ: Mapping[str, str]) -> Ranks | None:
    """This process's place among those that mpiexec or srun started; None when it is alone."""
    for rank, size, local_rank in _LAUNCHERS:
        if not environ.get(rank, "").isdigit():
            continue
        count = environ.get(size, "")
        if rank.startswith("SLURM") and count in {"", "1"}:
            continue  # a shell of Slurm's: nothing was started together
        place = environ.get(local_rank) or environ[rank]
        here = next((environ[name] for name in _LOCAL_SIZES if environ.get(name)), "")
        return Ranks(
            int(environ[rank]),
            int(count) if count.isdigit() else None,
            int(place) if place.isdigit() else 0,
            int(here) if here.isdigit() else None,
        )
    return None


def _command(environ: Mapping[str, str], variable: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(environ.get(variable, "")))
    except ValueError as error:
        raise RequestError(f"{variable} is no command: {error}") from None


def _seconds(environ: Mapping[str, str], variable: str, *, default: float) -> float:
    text = environ.get(variable, "")
    try:
        seconds = float(text) if text else default
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < math.inf:
        raise RequestError(f"{variable} must be a number of seconds above zero, got {text!r}")
    return seconds


def _endpoint(environ: Mapping[str, str], variable: str) -> str:
    value = environ.get(variable) or "auto"
    if value not in {"auto", "off"} and not value.startswith(("http://", "https://")):
        raise RequestError(f"{variable} must be auto, off or an http URL, got {value!r}")
    return value


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
    tables = ("limits", "prices", "stores", "serve")
    known = {*PLACES, "perceptual", "ray_address", "server", "token_file", *tables}
    _only_known(table, known, where=str(path))
    for name in tables:
        if not isinstance(table.get(name, {}), dict):
            raise RequestError(f"{path}: {name} must be a table [{name}], got {table[name]!r}")
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


def _perceptual(table: dict[str, Any], base: Path) -> str | None:
    """A name stays as it is; a file that stands there counts from the configuration file."""
    value = table.get("perceptual")
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise RequestError(f"perceptual must be a name or a path in quotes, got {value!r}")
    path = base / Path(value).expanduser()
    return str(path) if path.is_file() else value


def _serve(table: dict[str, Any], base: Path) -> dict[str, Any]:
    """The service's own table; its stores are places like the others."""
    places = {key: _place(table, key, base) for key in ("media", "system") if key in table}
    return table | places


def _ray(table: dict[str, Any], environ: Mapping[str, str]) -> RayCluster:
    """Where the cluster is, from within or, as a URL, from outside.

    Ray reads RAY_ADDRESS for both, and prefers RAY_API_SERVER_ADDRESS for the URL.
    """
    address = environ.get("RAY_ADDRESS") or table.get("ray_address", "")
    if not isinstance(address, str):
        raise RequestError(f"ray_address must be an address in quotes, got {address!r}")
    outside = address.startswith(("http://", "https://"))
    return RayCluster(
        "" if outside else address,
        jobs=environ.get("RAY_API_SERVER_ADDRESS") or (address if outside else ""),
        wait_s=_seconds(environ, "IMPASTO_RAY_WAIT_S", default=RAY_WAIT_S),
    )


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


def _prices(table: dict[str, Any]) -> dict[str, Price]:
    prices = {}
    for name, entry in table.items():
        where = f"[prices] {name!r}"
        if not isinstance(entry, dict) or "per_hour" not in entry:
            raise RequestError(
                f"{where} must read {{per_hour = 0.5, spot_per_hour = 0.1}}, got {entry!r}"
            )
        _only_known(entry, {"per_hour", "spot_per_hour"}, where=where)
        for key, value in entry.items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not (math.isfinite(value) and value >= 0):
                raise RequestError(f"{where}: {key} must be a number from 0 up, got {value!r}")
        prices[name] = Price(**entry)
    return prices


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
