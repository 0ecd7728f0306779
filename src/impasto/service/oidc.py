"""Bearer tokens of an OpenID Connect provider: verified against its published keys.

The provider is pinned by configuration: issuer, audience and algorithms are ours to name, never the
token's (RFC 8725, "JSON Web Token Best Current Practices"). Whatever can't be checked is refused.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt
import msgspec

from impasto.errors import RequestError
from impasto.service.roles import ROLES, Principal, Role, check_role, check_user

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
              "ES256", "ES384", "ES512", "EdDSA")  # fmt: skip
"""Asymmetric ones: with HS256 the published key would be the secret."""

REQUIRED_CLAIMS = ("iss", "aud", "exp", "iat", "sub")
MAX_TOKEN_BYTES = 16 << 10
_FETCH_TIMEOUT_S = 3.0
_PAUSE_S = 10.0
"""After a failed fetch no other is tried for so long: refusals stay quick."""
_KEYS_LAST_S = 300.0
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class OidcRefused(Exception):  # noqa: N818 - reads as what happened
    """The token is not accepted; the message says why, for the log and not for its bearer."""


class OidcUnreachable(Exception):  # noqa: N818 - reads as what happened
    """The provider's keys can't be had now, so nobody whom it vouches for is let in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcSettings:
    """The provider, and how its claims become users and roles."""

    issuer: str
    """As the provider writes it, to the letter; https, or http to this machine."""
    audience: str
    roles: dict[str, str] = field(default_factory=dict)
    """Value of the role claim → our role; the highest one counts, and none is refused."""
    role_claim: str = "roles"
    """Where the roles stand; dots lead inwards, as in "realm_access.roles"."""
    user_claim: str = "sub"
    algorithms: tuple[str, ...] = ("RS256", "ES256")
    jwks_url: str | None = None
    """None asks the issuer's /.well-known/openid-configuration."""
    leeway_s: float = 30.0
    """How far the clocks may differ."""
    refresh_s: float = 30.0
    """An unknown key's id makes the keys be fetched anew at most so often."""


def read_oidc(table: Mapping[str, Any]) -> OidcSettings:
    """Settings from a table of the configuration.

    Raises:
        RequestError: a key is missing, unknown or of the wrong type, or a value is not safe.
    """
    known = {each.name for each in fields(OidcSettings)}
    for key in table:
        if key not in known:
            raise RequestError(
                f"oidc: unknown key {key!r}; the keys are {', '.join(sorted(known))}"
            )
    try:
        settings = msgspec.convert(dict(table), OidcSettings)
    except msgspec.ValidationError as error:
        raise RequestError(f"oidc: {error}") from None
    for url in filter(None, (settings.issuer, settings.jwks_url)):
        _check_url(url)
    for algorithm in settings.algorithms:
        if algorithm not in ALGORITHMS:
            raise RequestError(
                f"oidc: algorithms must be among {', '.join(ALGORITHMS)}, got {algorithm!r}"
            )
    if not settings.algorithms or not settings.audience:
        raise RequestError("oidc: audience and algorithms must not be empty")
    for role in settings.roles.values():
        check_role(role)
    return settings


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
    if not safe or not parts.hostname:
        raise RequestError(f"oidc: {url!r} must be an https URL (http to this machine only)")


class Oidc:
    """Verifies the tokens of one provider; keeps its keys for five minutes. Thread-safe."""

    def __init__(
        self, settings: OidcSettings, *, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self.settings = settings
        self._clock_s = clock_s
        self._keys: jwt.PyJWKClient | None = None
        self._lock = threading.Lock()
        self._paused_until_s = float("-inf")

    def verify(self, token: str) -> Principal:
        """Return whom `token` vouches for.

        Raises:
            OidcRefused: it is not a valid token of this provider, or names none of the roles.
            OidcUnreachable: the provider's keys can't be had.
        """
        settings = self.settings
        if len(token) > MAX_TOKEN_BYTES:
            raise OidcRefused(f"the token is longer than {MAX_TOKEN_BYTES} bytes")
        try:
            header = jwt.get_unverified_header(token)
            algorithm, key_id = header.get("alg"), header.get("kid")
            if algorithm not in settings.algorithms:  # before any key is looked for
                raise OidcRefused(f"the algorithm {algorithm!r} is not accepted")
            if not isinstance(key_id, str):
                raise OidcRefused("the token names no key (kid)")
            claims = jwt.decode(
                token,
                self._key(key_id),
                algorithms=list(settings.algorithms),
                audience=settings.audience,
                issuer=settings.issuer,
                leeway=settings.leeway_s,
                options={"require": list(REQUIRED_CLAIMS), "enforce_minimum_key_length": True},
            )
        except jwt.PyJWTError as error:
            raise OidcRefused(str(error)) from error
        return self._principal(claims)

    def _principal(self, claims: Mapping[str, Any]) -> Principal:
        name = claims.get(self.settings.user_claim)
        if not isinstance(name, str):
            raise OidcRefused(f"the claim {self.settings.user_claim!r} is not a name")
        try:
            user = check_user(f"oidc:{name}")
        except RequestError as error:
            raise OidcRefused(str(error)) from error
        return Principal(user, self._role(claims))

    def _role(self, claims: Mapping[str, Any]) -> Role:
        """The highest of our roles that the claims give."""
        found: Any = claims
        for part in self.settings.role_claim.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        values = [found] if isinstance(found, str) else found
        given = {
            self.settings.roles.get(value)
            for value in (values if isinstance(values, list) else [])
            if isinstance(value, str)
        }
        for role in reversed(ROLES):
            if role in given:
                return role
        raise OidcRefused(f"the claim {self.settings.role_claim!r} gives no role here")

    def _key(self, key_id: str) -> jwt.PyJWK:
        with self._lock:  # one fetch at a time; who waited finds its result
            if self._clock_s() < self._paused_until_s:
                raise OidcUnreachable("the identity provider could not be reached just now")
            try:
                if self._keys is None:
                    self._keys = self._open_keys()
                return self._keys.get_signing_key(key_id)
            except (jwt.PyJWKClientConnectionError, httpx.HTTPError, OSError, ValueError) as error:
                self._paused_until_s = self._clock_s() + _PAUSE_S
                raise OidcUnreachable(f"the identity provider can't be reached: {error}") from error

    def _open_keys(self) -> jwt.PyJWKClient:
        return jwt.PyJWKClient(
            self.settings.jwks_url or self._discovered(),
            lifespan=_KEYS_LAST_S,
            timeout=_FETCH_TIMEOUT_S,
            cooldown_duration=self.settings.refresh_s,
        )

    def _discovered(self) -> str:
        """Where the provider's metadata says that its keys are (OpenID Connect Discovery 1.0)."""
        issuer = self.settings.issuer
        url = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
        found = httpx.get(url, timeout=_FETCH_TIMEOUT_S).raise_for_status().json()
        if not isinstance(found, dict) or found.get("issuer") != issuer:
            raise ValueError(f"{url} speaks for another issuer")
        keys = str(found.get("jwks_uri"))
        try:
            _check_url(keys)
        except RequestError as error:
            raise ValueError(str(error)) from error
        return keys
