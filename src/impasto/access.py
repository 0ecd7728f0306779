"""What opens a store: an account or an endpoint, and the secret that goes with it."""

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How everything below one URL is reached.

    It is handed from process to process in memory and over pipes. It is never written to a plan, a
    log, an argument or a disk, and its repr has no secret in it.
    """

    url: str
    """Where it counts: "az://media", "s3://bucket/runs", "az://" for every container, or a folder's
    absolute path."""
    account: str | None = None
    """Of Azure storage."""
    endpoint: str | None = None
    """URL of the service, where it is not the provider's own."""
    region: str | None = None
    profile: str | None = None
    """Name in the files that the AWS tools keep; needs boto3."""
    service_account: str | None = None
    """Path of the JSON file that Google hands out."""
    key_id: str | None = None
    """Access key id of S3; its secret is `key`."""
    key: str | None = field(default=None, repr=False)
    """Account key of Azure, or secret access key of S3."""
    sas: str | None = field(default=None, repr=False)
    """Shared access signature of Azure, as a query string."""
    token: str | None = field(default=None, repr=False)
    """Bearer token of Azure, or session token of S3."""
    grants: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """URLs of objects of Azure, each with a shared access signature of its own."""
    role: str | None = None
    """ARN of the role of S3 that workers take on, for their run's objects alone."""
    seal: str | None = field(default=None, repr=False)
    """Keys that objects are sealed with, "id:base64 id:base64 …", the newest first."""
    certificate: str | None = None
    """Path of a PEM file with the authority that signed the endpoint's certificate."""
    allow_http: bool = False
    """Take an endpoint without TLS that is not on this machine."""
    lacks: str | None = None
    """Environment variable that was to hold the secret, and is not set."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be seen by anybody."""
        signatures = (signature for _, signature in self.grants)
        held = (self.key, self.sas, self.token, self.seal, *signatures)
        return tuple(secret for secret in held if secret)


def covers(prefix: str, url: str) -> bool:
    """Whether `url` lies below `prefix`, whole path parts."""
    below = prefix if prefix.endswith("/") else prefix + "/"
    return url == prefix or url.startswith(below)


def find_access(url: str, known: Iterable[Access]) -> Access | None:
    """The access with the longest URL that `url` lies below; None where there is none."""
    fitting = [access for access in known if covers(access.url, url)]
    return max(fitting, key=lambda access: len(access.url), default=None)
