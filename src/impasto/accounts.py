"""Credentials of stores, out of the configuration's tables and the environment.

    [stores."az://media"]            # everything below that URL; the longest one counts
    account = "paintings"
    sas_env = "MEDIA_SAS"            # the variable that holds it; or sas = "…"

    [stores."az://system"]
    account = "paintingsystem"
    key_env = "SYSTEM_KEY"

    [stores."s3://films"]
    profile = "studio"               # or key_id and key_env, region, endpoint

    [stores."/srv/impasto"]          # a folder: its objects are encrypted
    seal_env = "IMPASTO_SEAL"        # that holds "id:base64 id:base64 …", the newest key first

What is named by no table takes what the providers' own tools take from the environment.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from impasto.access import Access
from impasto.errors import RequestError

_SECRETS = ("key", "sas", "token", "seal")
_PATHS = ("service_account", "certificate")
_PLAIN = ("account", "endpoint", "region", "profile", "key_id", "role")
KEYS = (*_PLAIN, *_PATHS, *_SECRETS, *(f"{name}_env" for name in _SECRETS), "allow_http")
"""Of a table [stores."URL"]."""
_FOLDERS, _OF_FOLDERS = ("/", "~", "file:///"), ("seal", "seal_env")

_USUAL: dict[str, dict[str, tuple[str, ...]]] = {
    "az://": {
        "account": ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"),
        "key": ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY"),
        "sas": ("AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY"),
        "endpoint": ("AZURE_STORAGE_ENDPOINT",),
    },
    "s3://": {
        "key_id": ("AWS_ACCESS_KEY_ID",),
        "key": ("AWS_SECRET_ACCESS_KEY",),
        "token": ("AWS_SESSION_TOKEN",),
        "profile": ("AWS_PROFILE",),
        "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
        "endpoint": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    },
    "gs://": {"service_account": ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT")},
}
"""URL → field → the variables that hold it; the first that is set counts."""
_OF_CONNECTION = {
    "account": "AccountName",
    "key": "AccountKey",
    "sas": "SharedAccessSignature",
    "endpoint": "BlobEndpoint",
}
"""Field → its name in Azure's connection string, which gives what no variable of its own gives."""


def load_access(
    table: Mapping[str, Any], environ: Mapping[str, str], base: Path
) -> tuple[Access, ...]:
    """Credentials by URL.

    Args:
        table: `stores` of the configuration.
        environ: the environment.
        base: what relative paths of the table count from.

    Raises:
        RequestError: a key that means nothing, or a value of the wrong kind; no secret is shown.
    """
    named = [_from_table(url, entry, environ, base) for url, entry in table.items()]
    usual = [_from_environment(url, names, environ) for url, names in _USUAL.items()]
    return (*named, *(access for access in usual if access is not None))


def named_variables(table: Mapping[str, Any]) -> frozenset[str]:
    """The variables that hold secrets by the tables' own word."""
    entries = (entry for entry in table.values() if isinstance(entry, dict))
    return frozenset(
        value
        for entry in entries
        for name, value in entry.items()
        if name.endswith("_env") and isinstance(value, str)
    )


def _from_table(url: str, entry: Any, environ: Mapping[str, str], base: Path) -> Access:
    where = f'[stores."{url}"]'
    folder = url.startswith(_FOLDERS)
    if not isinstance(entry, dict) or not (folder or url.startswith(tuple(_USUAL))):
        raise RequestError(f"{where} must be a table for az://…, s3://…, gs://… or a whole path")
    keys = _OF_FOLDERS if folder else KEYS
    given: dict[str, Any] = {}
    for name, value in entry.items():
        if name not in keys:
            raise RequestError(f"{where}: unknown key {name!r}; the keys are {', '.join(keys)}")
        if name == "allow_http":
            if not isinstance(value, bool):
                raise RequestError(f"{where}: allow_http must be true or false")
        elif not isinstance(value, str) or not value:
            raise RequestError(f"{where}: {name} must be text in quotes")
        given |= _settled(name, value, environ, base)
    if folder:
        url = str(Path(unquote(url.removeprefix("file://"))).expanduser())
    return Access(url=url if url in _USUAL else url.rstrip("/"), **given)


def _settled(name: str, value: Any, environ: Mapping[str, str], base: Path) -> dict[str, Any]:
    """The field of an access that an entry gives."""
    if name in _PATHS:
        return {name: str(base / Path(value).expanduser())}
    if not name.endswith("_env"):
        return {name: value}
    if environ.get(value):
        return {name.removesuffix("_env"): environ[value]}
    return {"lacks": value}  # a matter of whoever opens it: other commands go on


def _from_environment(
    url: str, names: Mapping[str, tuple[str, ...]], environ: Mapping[str, str]
) -> Access | None:
    found: dict[str, Any] = {
        field: next((environ[name] for name in variables if environ.get(name)), None)
        for field, variables in names.items()
    }
    if url == "s3://" and found["key_id"]:
        found["profile"] = None  # as the AWS tools have it: keys go before a profile
    if url == "az://":
        connection = environ.get("AZURE_STORAGE_CONNECTION_STRING", "")
        parts = dict(part.split("=", 1) for part in connection.split(";") if "=" in part)
        for name, part in _OF_CONNECTION.items():
            found[name] = found[name] or parts.get(part)
    return Access(url=url, **found) if any(found.values()) else None
