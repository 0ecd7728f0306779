"""Profiles of the AWS tools, and roles for workers, through boto3."""

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from impasto.access import Access
from impasto.errors import RunFailed, Unavailable


def profile(name: str, url: str) -> tuple[str | None, Any]:
    """Return a profile's region and what gives its credentials, renewed where they expire.

    Raises:
        Unavailable: boto3 is missing, or there is no such profile.
    """
    try:
        import boto3
        from botocore.exceptions import BotoCoreError
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        raise Unavailable(f"{url} by a profile needs: pip install 'impasto[aws]'") from None
    try:
        session = boto3.Session(profile_name=name)
        return session.region_name, Boto3CredentialProvider(session)
    except (BotoCoreError, ValueError) as error:
        raise Unavailable(f"{url}: the AWS profile {name!r} can't be used: {error}") from None


def assume(access: Access, reads: Sequence[str], writes: Sequence[str]) -> Access:
    """Take the role of `access` on, for these objects alone.

    Written objects are widened to their folders, so that all chunks of a run share one answer; it
    is asked for anew when half of its hour is over.

    Raises:
        Unavailable: boto3 is missing, or the role is refused.
        RunFailed: who gives it does not answer.
    """
    folders = sorted({url.rpartition("/")[0] for url in writes})
    singly = sorted(url for url in reads if url.rpartition("/")[0] not in folders)
    wanted = (access, (*singly, *(f"{folder}/*" for folder in folders)), tuple(folders))
    for old in [one for one, (taken_at, _) in _assumed.items() if _now() - taken_at > _RENEW_S]:
        del _assumed[old]
    if wanted not in _assumed:
        narrowed = _assume(access, policy(wanted[1], [f"{folder}/*" for folder in folders]))
        _assumed[wanted] = (_now(), narrowed)
    return _assumed[wanted][1]


def policy(reads: Iterable[str], writes: Iterable[str]) -> str:
    """The policy that allows reading and writing these URLs, in which * stands for anything."""

    def statement(actions: list[str], urls: Iterable[str]) -> dict[str, Any]:
        names = [url.replace("s3://", "arn:aws:s3:::", 1) for url in urls]
        return {"Effect": "Allow", "Action": actions, "Resource": names}

    statements = [
        statement(["s3:GetObject"], reads),
        statement(["s3:PutObject", "s3:AbortMultipartUpload"], writes),
    ]
    kept = [one for one in statements if one["Resource"]]
    return json.dumps({"Version": "2012-10-17", "Statement": kept})


_now = time.monotonic
_RENEW_S = 1800.0
_assumed: dict[Any, tuple[float, Access]] = {}


def _assume(access: Access, session_policy: str) -> Access:
    try:
        import boto3
        from botocore import exceptions as failures
    except ImportError:
        raise Unavailable(f"a role for {access.url} needs: pip install 'impasto[aws]'") from None
    try:
        session = boto3.Session(
            profile_name=access.profile,
            region_name=access.region,
            aws_access_key_id=access.key_id,
            aws_secret_access_key=access.key,
            aws_session_token=access.token,
        )
        client = session.client("sts", endpoint_url=access.endpoint, verify=access.certificate)
        given = client.assume_role(
            RoleArn=access.role, RoleSessionName="impasto-worker", Policy=session_policy
        )["Credentials"]
    except (failures.BotoCoreError, failures.ClientError, ValueError) as error:
        told = str(error).partition("\n")[0][:200]
        if _may_pass(error):
            raise RunFailed(
                f"{access.url}: the role {access.role!r} is not given: {told}"
            ) from None
        raise Unavailable(f"{access.url}: the role {access.role!r} is refused: {told}") from None
    return replace(
        access,
        role=None,
        profile=None,
        key_id=given["AccessKeyId"],
        key=given["SecretAccessKey"],
        token=given["SessionToken"],
        region=access.region or session.region_name,
    )


def _may_pass(error: Exception) -> bool:
    """Whether it is a failure of the service or the way there, and no refusal."""
    from botocore import exceptions as failures

    if isinstance(error, failures.ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= 500 or "Throttl" in error.response.get("Error", {}).get("Code", "")
    return isinstance(error, failures.ConnectionError | failures.HTTPClientError)
