"""What object_store does not do on Azure: log in by azure-identity, delete by a signature."""

import ssl
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from impasto.errors import RunFailed, Unavailable

_VERSION = "2021-12-02"
"""Of the REST interface; any from 2019 on does."""


def identity(url: str) -> Any:
    """Log in as azure-identity finds best: environment, managed identity, the command line.

    Raises:
        Unavailable: the package is missing.
    """
    try:
        from obstore.auth.azure import AzureCredentialProvider
    except ImportError:
        raise Unavailable(
            f"{url} needs an account key, a SAS or a login: set AZURE_STORAGE_ACCOUNT_KEY or "
            "AZURE_STORAGE_SAS_TOKEN, see docs/storage.md, or pip install 'impasto[azure]'"
        ) from None
    return AzureCredentialProvider()


def delete_by_sas(url: str, sas: str, certificate: str | None, *, timeout_s: float) -> None:
    """Delete one blob with a shared access signature.

    object_store deletes in batches only, to which a signature for less than the whole account has
    no right.

    Raises:
        FileNotFoundError: there is none.
        Unavailable: the signature does not allow it.
        RunFailed: the store fails.
    """
    headers = {"x-ms-version": _VERSION}
    request = Request(f"{url}?{sas}", method="DELETE", headers=headers)  # noqa: S310 - see _client
    secure = ssl.create_default_context(cafile=certificate) if url.startswith("https:") else None
    try:
        with urlopen(request, timeout=timeout_s, context=secure):  # noqa: S310 - likewise
            return
    except HTTPError as error:
        error.close()
        if error.code == 404:
            raise FileNotFoundError(url) from None
        kind = Unavailable if error.code in {401, 403} else RunFailed
        raise kind(f"can't delete {url}: it answers {error.code} {error.reason}") from None
    except (URLError, OSError) as error:
        if isinstance(getattr(error, "reason", error), ssl.SSLCertVerificationError):
            raise RunFailed(f"can't delete {url}: its certificate is not trusted") from None
        raise RunFailed(f"can't delete {url}: it can't be reached") from None
