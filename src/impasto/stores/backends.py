"""From a URL and the credentials for it to a store."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, LocalStore, MemoryStore, ObjectStore, S3Store

from impasto.access import Access, find_access
from impasto.errors import RequestError, Unavailable
from impasto.stores.store import Store

REMOTE = ("az", "s3", "gs", "memory")
_SECRET = re.compile(
    r"[?&](sig|signature|x-amz-\w+|x-goog-\w+|awsaccesskeyid|\w*token|\w*key|\w*secret|password)=",
    re.IGNORECASE,
)
_RETRIES: Any = {
    "max_retries": 4,
    "retry_timeout": timedelta(seconds=20),
    "backoff": {
        "init_backoff": timedelta(milliseconds=200),
        "max_backoff": timedelta(seconds=2),
        "base": 2,
    },
}
"""A store that is down fails within a few seconds: above it, a chunk has attempts of its own."""
_CONNECT_TIMEOUT_S = 5
_SILENCE_S = 60.0
"""That a store may leave a request or the rest of an answer waiting."""
_TIMEOUT_S = 900
"""Of a request as a whole: a large segment goes through a slow line."""


def scheme_of(text: str) -> str:
    """The scheme of a URL in small letters; empty for a path, also for one with a drive."""
    scheme, colon, _ = text.partition("://")
    named = re.fullmatch("[A-Za-z][A-Za-z0-9+.-]+", scheme)
    return scheme.lower() if colon and named else ""


def split(url: str) -> tuple[str, str, str]:
    """Return scheme, container and key of the URL of an object or a prefix.

    The key is taken as it stands: nothing in it is decoded, and "?" and "#" belong to it.

    Raises:
        RequestError: another kind of URL, one without a container, or one that carries a secret;
            the message shows none.
    """
    scheme = scheme_of(url)
    rest = url.partition("://")[2]
    container, _, key = rest.partition("/")
    if "@" in container or _SECRET.search(url):
        raise RequestError(
            f"a URL such as this {scheme}:// one must not carry a password, key or signature, as "
            "URLs are stored and logged: give it by the environment, or in [stores] of the "
            "configuration"
        )
    if scheme not in REMOTE:
        raise RequestError(
            f"{scheme}:// is not a place that Impasto reads or writes: give a path, file://, "
            "az://container/…, s3://bucket/… or gs://bucket/…"
        )
    if not re.fullmatch(r"[A-Za-z0-9$][A-Za-z0-9._-]*", container):
        raise RequestError(f"{url!r} names no container: give {scheme}://container/…")
    return scheme, container, key


def local_path(text: str) -> Path:
    """The path that `text` names, given as one or as a file URL.

    Raises:
        RequestError: a file URL of another machine.
    """
    if scheme_of(text) != "file":
        return Path(text)
    parts = urlsplit(text)
    if parts.netloc not in {"", "localhost"}:
        raise RequestError(f"{text!r} is not on this machine: give a path or a file:/// URL")
    return Path(unquote(parts.path))


def overlap(one: str, other: str) -> bool:
    """Whether two stores, by path or URL, are the same, or one of them lies within the other.

    Raises:
        RequestError: as `open_store` does for a URL.
    """
    first, second = _parts(one), _parts(other)
    shared = min(len(first), len(second))
    return first[:shared] == second[:shared]


def _parts(url: str) -> tuple[str, ...]:
    """Where a store is, from the root down."""
    if scheme_of(url) in {"", "file"}:
        return ("file", *local_path(url).expanduser().resolve().parts)
    scheme, container, prefix = split(url)
    return (scheme, container, *filter(None, prefix.split("/")))


def open_store(url: str, access: Sequence[Access] = ()) -> Store:
    """Open the store at a path or a URL; a local folder is made when missing.

    Nothing is asked of a remote store yet: what is wrong with it shows at its first use.

    Args:
        url: a path, file://, az://container/prefix, s3://bucket/prefix, gs://bucket/prefix, or
            memory://name, which lives as long as this process.
        access: credentials by URL; the longest that fits counts.

    Raises:
        RequestError: another kind of URL, or one that carries a secret.
        Unavailable: credentials are missing or can't be used, or a folder can't be made.
    """
    if scheme_of(url) in {"", "file"}:
        path = local_path(url).expanduser().absolute()
        return _sealed(_open_folder(path, find_access(str(path), access)))
    scheme, container, prefix = split(url)
    prefix = prefix.strip("/")
    named = f"{scheme}://{container}" + (f"/{prefix}" if prefix else "")
    found = find_access(named, access) or Access(url=f"{scheme}://")
    _check_secret(named, found)
    delete = None
    try:
        match scheme:
            case "az" if found.grants:
                return _sealed(_granted(container, found, named, prefix))
            case "az":
                backend, delete = azure_backend(container, found, named)
            case "s3":
                backend = _s3(container, found, named)
            case "gs":
                backend = _gcs(container, found, named)
            case _:
                backend = _memory(container)
    except (BaseError, ValueError, OSError) as error:
        raise Unavailable(
            f"{named} can't be opened: {_without(found.secrets, str(error))}"
        ) from None  # the original may show a secret
    store = Store(backend, named, prefix=prefix, access=found, delete=delete)
    return _sealed(store)


def _check_secret(url: str, access: Access) -> None:
    if access.lacks:
        raise Unavailable(f"{url} needs its secret in {access.lacks}, which is not set")


def _sealed(store: Store) -> Store:
    """Wrap a store whose objects are to be encrypted, see `sealing`."""
    access = store.access
    if access is None:
        return store
    _check_secret(store.url, access)
    if access.seal is None:
        return store
    from impasto.stores.sealed import SealedStore
    from impasto.stores.sealing import read_keys

    place = store.url.removeprefix(access.url).strip("/")
    return SealedStore(store, read_keys(access.seal), place=place)


def _open_folder(path: Path, access: Access | None) -> Store:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"can't make the store {str(path)!r}: {error.strerror}") from error
    return Store(LocalStore(path), str(path), access=access)


@cache
def _memory(name: str) -> MemoryStore:  # noqa: ARG001 - one for each name
    return MemoryStore()


def _granted(container: str, access: Access, url: str, prefix: str) -> Store:
    from impasto.stores.granted import GrantedStore

    def open_with(signature: str) -> ObjectStore:
        return azure_backend(container, replace(access, sas=signature, grants=()), url)[0]

    return GrantedStore(url, prefix=prefix, access=access, open_with=open_with)


def azure_backend(
    container: str, access: Access, url: str
) -> tuple[ObjectStore, Callable[[str], None] | None]:
    """Return what opens a container, and what deletes from it where that has no right of its own.

    Raises:
        Unavailable: an account or a package is missing, or the endpoint is refused.
    """
    if not access.account:
        raise Unavailable(
            f"{url} needs a storage account: set AZURE_STORAGE_ACCOUNT_NAME, or account in "
            f'[stores."az://{container}"]'
        )
    endpoint = access.endpoint or f"https://{access.account}.blob.core.windows.net"
    delete = None
    if access.key:
        provider = _giving(access_key=access.key)
    elif access.sas:
        sas = access.sas.removeprefix("?")
        provider = _giving(sas_token=parse_qsl(sas))
        delete = _deleting(f"{endpoint.rstrip('/')}/{container}", sas, access.certificate)
    elif access.token:
        provider = _giving(token=access.token)
    else:
        from impasto.stores.azure import identity

        provider = identity(url)
    store = AzureStore(
        container,
        account_name=access.account,
        endpoint=endpoint,
        credential_provider=provider,
        client_options=_client(access, endpoint),
        retry_config=_RETRIES,
    )
    return store, delete


def _giving(**credential: Any) -> Any:
    """What gives a credential whenever it is asked.

    Given as plain options they would be mixed with what obstore itself finds in the environment,
    where another account's may come first.
    """
    return lambda: {**credential, "expires_at": None}


def _deleting(place: str, sas: str, certificate: str | None) -> Callable[[str], None]:
    from impasto.stores.azure import delete_by_sas

    def delete(path: str) -> None:
        delete_by_sas(f"{place}/{quote(path)}", sas, certificate, timeout_s=_SILENCE_S)

    return delete


def _s3(bucket: str, access: Access, url: str) -> ObjectStore:
    # Copying on a condition goes through parts on S3 itself and on what speaks its language.
    given: dict[str, Any] = {"copy_if_not_exists": "multipart"}
    region = access.region
    if access.key_id and access.key:
        given["credential_provider"] = _giving(
            access_key_id=access.key_id, secret_access_key=access.key, token=access.token
        )
    elif access.profile:
        from impasto.stores.aws import profile

        usual, given["credential_provider"] = profile(access.profile, url)
        region = region or usual
    given |= {"endpoint": access.endpoint} if access.endpoint else {}
    given |= {"region": region} if region else {}
    return S3Store(
        bucket, client_options=_client(access, access.endpoint), retry_config=_RETRIES, **given
    )


def _gcs(bucket: str, access: Access, url: str) -> ObjectStore:
    given: dict[str, Any] = {}
    if access.service_account:
        if not Path(access.service_account).is_file():
            raise Unavailable(
                f"{url}: the service account {access.service_account!r} is not a file"
            )
        given["service_account_path"] = access.service_account
    return GCSStore(
        bucket, client_options=_client(access, access.endpoint), retry_config=_RETRIES, **given
    )


def _client(access: Access, endpoint: str | None) -> Any:
    """How HTTP is spoken. Certificates are always verified."""
    options: dict[str, Any] = {
        "timeout": f"{_TIMEOUT_S}s",
        "connect_timeout": f"{_CONNECT_TIMEOUT_S}s",
        "read_timeout": timedelta(seconds=_SILENCE_S),
    }
    if endpoint is not None and not endpoint.startswith("https://"):
        if not endpoint.startswith("http://"):
            raise Unavailable(f"an endpoint must be an https:// URL, got {endpoint!r}")
        if not (access.allow_http or _is_here(urlsplit(endpoint).hostname or "")):
            raise Unavailable(
                f"the endpoint {endpoint!r} is not encrypted: give an https:// URL, or set "
                f'allow_http in [stores."{access.url}"]'
            )
        options["allow_http"] = True
    if access.certificate:
        try:
            options["root_certificate"] = Path(access.certificate).read_bytes()
        except OSError as error:
            raise Unavailable(
                f"can't read the certificate {access.certificate!r}: {error.strerror}"
            ) from error
    return options


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _without(secrets: tuple[str, ...], text: str) -> str:
    for secret in secrets:
        text = text.replace(secret, "…")
    return text.strip().partition("\n")[0][:300]
