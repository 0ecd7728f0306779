"""Profiles of the AWS tools, through boto3."""

from typing import Any

from impasto.errors import RequestError


def profile(name: str, url: str) -> tuple[str | None, Any]:
    """Return a profile's region and what gives its credentials, renewed where they expire.

    Raises:
        RequestError: boto3 is missing, or there is no such profile.
    """
    try:
        import boto3
        from botocore.exceptions import BotoCoreError
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        raise RequestError(f"{url} by a profile needs: pip install 'impasto[aws]'") from None
    try:
        session = boto3.Session(profile_name=name)
        return session.region_name, Boto3CredentialProvider(session)
    except (BotoCoreError, ValueError) as error:
        raise RequestError(f"{url}: the AWS profile {name!r} can't be used: {error}") from None
