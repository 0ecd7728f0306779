"""Bearer tokens of an OpenID Connect provider, from a real one on this machine."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from api_service import Clock, make_service, served
from impasto.errors import RequestError
from impasto.service.oidc import Oidc, OidcRefused, OidcUnreachable, read_oidc
from impasto.service.roles import Principal

AUDIENCE = "impasto"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SHORT_RSA = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505
EC = ec.generate_private_key(ec.SECP256R1())


class Issuer:
    """An identity provider on loopback: discovery, keys, and how often the keys were asked for."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {"rsa": RSA, "ec": EC}
        self.fetched = 0
        self.hangs = False
        self.speaks_for: str | None = None
        issuer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/tenant"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        if request.path.endswith("openid-configuration"):
            found: object = {"issuer": self.speaks_for or self.url, "jwks_uri": f"{self.url}/keys"}
        else:
            self.fetched += 1
            if self.hangs:
                request.close_connection = True
                return
            found = {"keys": [_as_jwk(name, key) for name, key in self.keys.items()]}
        body = json.dumps(found).encode()
        request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def sign(
        self, *, key: Any = RSA, kid: str = "rsa", algorithm: str = "RS256", **claims: Any
    ) -> str:
        """A token that is right but for what `claims` change; a claim that is None is left out."""
        now = time.time()
        right = {"iss": self.url, "aud": AUDIENCE, "sub": "alice", "iat": now, "exp": now + 60,
                 "roles": ["painters"]}  # fmt: skip
        kept = {name: value for name, value in (right | claims).items() if value is not None}
        return jwt.encode(kept, key, algorithm=algorithm, headers={"kid": kid})


def _as_jwk(name: str, key: Any) -> dict[str, Any]:
    kind = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
    public: dict[str, Any] = json.loads(kind.to_jwk(key.public_key()))
    return public | {"kid": name, "use": "sig"}


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.close()


def oidc_of(issuer: Issuer, **more: Any) -> Oidc:
    table = {"issuer": issuer.url, "audience": AUDIENCE, "refresh_s": 0,
             "roles": {"painters": "submitter", "ops": "operator"}}  # fmt: skip
    return Oidc(read_oidc(table | more))


@pytest.mark.parametrize(("kid", "algorithm"), [("rsa", "RS256"), ("ec", "ES256")])
def test_a_token_of_the_provider_says_who_bears_it(
    issuer: Issuer, kid: str, algorithm: str
) -> None:
    token = issuer.sign(key=issuer.keys[kid], kid=kid, algorithm=algorithm)
    assert oidc_of(issuer).verify(token) == Principal("oidc:alice", "submitter")


def test_the_highest_role_counts_wherever_the_claim_stands(issuer: Issuer) -> None:
    oidc = oidc_of(issuer, role_claim="realm_access.roles")
    token = issuer.sign(realm_access={"roles": ["painters", "ops", "nobody"]})
    assert oidc.verify(token).role == "operator"


def test_another_claim_can_name_the_user(issuer: Issuer) -> None:
    oidc = oidc_of(issuer, user_claim="email")
    assert oidc.verify(issuer.sign(email="a@b.example")).user == "oidc:a@b.example"


def _now(shift_s: float) -> float:
    return time.time() + shift_s


WRONG: dict[str, dict[str, Any]] = {
    "another issuer": {"iss": "https://evil.example"},
    "another audience": {"aud": "someone-else"},
    "expired": {"exp": _now(-31)},
    "not yet valid": {"nbf": _now(3600)},
    "issued in the future": {"iat": _now(3600)},
    "no expiry": {"exp": None},
    "no audience": {"aud": None},
    "no issuer": {"iss": None},
    "no subject": {"sub": None},
    "no time of issue": {"iat": None},
    "a subject with a line break": {"sub": "alice\nadmin"},
    "a subject that is no text": {"sub": 7},
    "no role": {"roles": None},
    "a role that means nothing": {"roles": ["strangers"]},
    "roles of a wrong kind": {"roles": {"painters": 1}},
    "our own name for a role": {"roles": ["admin"]},
    "another's key": {"key": OTHER_RSA},
    "an unknown key": {"kid": "unknown"},
    "an algorithm that is not pinned": {"algorithm": "RS512"},
    "a key of another kind": {"kid": "ec"},
}


@pytest.mark.parametrize("what", WRONG)
def test_a_token_is_refused_that_has(issuer: Issuer, what: str) -> None:
    with pytest.raises(OidcRefused):
        oidc_of(issuer).verify(issuer.sign(**WRONG[what]))


def test_clocks_may_differ_by_the_leeway(issuer: Issuer) -> None:
    token = issuer.sign(exp=_now(-20), iat=_now(-80))
    assert oidc_of(issuer).verify(token).user == "oidc:alice"
    with pytest.raises(OidcRefused, match="expired"):
        oidc_of(issuer, leeway_s=10).verify(token)


def _forged(header: dict[str, Any], claims: dict[str, Any], secret: bytes | None) -> str:
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
        for part in (header, claims)
    ]
    text = b".".join(parts)
    signature = hmac.new(secret, text, hashlib.sha256).digest() if secret else b""
    return (text + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


@pytest.mark.parametrize("algorithm", ["none", "None", "HS256"])
def test_a_forger_without_the_key_gets_nowhere(issuer: Issuer, algorithm: str) -> None:
    claims = jwt.decode(issuer.sign(), options={"verify_signature": False})
    public = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    token = _forged({"alg": algorithm, "typ": "JWT", "kid": "rsa"}, claims,
                    public if algorithm == "HS256" else None)  # fmt: skip
    with pytest.raises(OidcRefused, match="algorithm"):
        oidc_of(issuer).verify(token)
    assert issuer.fetched == 0


def test_no_symmetric_algorithm_can_be_configured(issuer: Issuer) -> None:
    for algorithm in ("HS256", "none", "RS1"):
        with pytest.raises(RequestError, match="algorithms"):
            oidc_of(issuer, algorithms=[algorithm])


def test_a_key_that_the_token_brings_along_is_not_looked_at(issuer: Issuer) -> None:
    jwk = _as_jwk("rsa", OTHER_RSA)
    token = jwt.encode(
        jwt.decode(issuer.sign(), options={"verify_signature": False}),
        OTHER_RSA,
        algorithm="RS256",
        headers={"kid": "rsa", "jwk": jwk, "jku": "http://127.0.0.1:9/keys"},
    )
    with pytest.raises(OidcRefused):
        oidc_of(issuer).verify(token)


def test_a_weak_key_is_refused(issuer: Issuer) -> None:
    issuer.keys["short"] = SHORT_RSA
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        token = issuer.sign(key=SHORT_RSA, kid="short")
    with pytest.raises(OidcRefused):
        oidc_of(issuer).verify(token)


@pytest.mark.parametrize("junk", ["", "a", "a.b.c", "." * 5000, "{}", "é.é.é", "a" * 20_000])
def test_junk_is_refused_without_asking_anybody(issuer: Issuer, junk: str) -> None:
    with pytest.raises(OidcRefused):
        oidc_of(issuer).verify(junk)
    assert issuer.fetched == 0


def test_keys_are_kept_and_a_new_one_is_found_by_its_name(issuer: Issuer) -> None:
    oidc = oidc_of(issuer)
    for _ in range(3):
        oidc.verify(issuer.sign())
    assert issuer.fetched == 1
    issuer.keys = {"next": OTHER_RSA}
    assert oidc.verify(issuer.sign(key=OTHER_RSA, kid="next")).user == "oidc:alice"
    assert issuer.fetched == 2
    with pytest.raises(OidcRefused):  # the old one is gone with it
        oidc.verify(issuer.sign())


def test_unknown_keys_do_not_make_us_a_flood_upon_the_provider(issuer: Issuer) -> None:
    oidc = oidc_of(issuer, refresh_s=3600)
    for n in range(20):
        with pytest.raises(OidcRefused):
            oidc.verify(issuer.sign(kid=f"unknown-{n}"))
    assert issuer.fetched == 1


def test_a_provider_that_is_away_lets_nobody_in_and_is_not_asked_again_at_once(
    issuer: Issuer,
) -> None:
    clock = Clock()
    table = {"issuer": issuer.url, "audience": AUDIENCE, "roles": {"painters": "submitter"}}
    oidc = Oidc(read_oidc(table), clock_s=clock)
    issuer.hangs = True
    token = issuer.sign()
    for _ in range(5):
        with pytest.raises(OidcUnreachable):
            oidc.verify(token)
    assert issuer.fetched == 1
    issuer.hangs = False
    clock.now += 11
    assert oidc.verify(token).user == "oidc:alice"


def test_a_provider_that_speaks_for_another_is_not_believed(issuer: Issuer) -> None:
    issuer.speaks_for = "https://evil.example"
    with pytest.raises(OidcUnreachable, match="another issuer"):
        oidc_of(issuer).verify(issuer.sign())


def test_a_closed_port_is_unreachable(issuer: Issuer) -> None:
    token = issuer.sign()
    oidc = oidc_of(issuer, jwks_url="http://127.0.0.1:9/keys")
    with pytest.raises(OidcUnreachable):
        oidc.verify(token)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"issuer": "http://id.example", "audience": "a"}, "https"),
        ({"issuer": "file:///etc/passwd", "audience": "a"}, "https"),
        ({"issuer": "https://id.example", "audience": ""}, "audience"),
        ({"issuer": "https://id.example"}, "audience"),
        ({"issuer": "https://id.example", "audience": "a", "algoritms": ["RS256"]}, "algoritms"),
        ({"issuer": "https://id.example", "audience": "a", "roles": {"x": "root"}}, "root"),
        ({"issuer": "https://id.example", "audience": "a", "jwks_url": "ftp://x/"}, "https"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_settings_that_are_not_safe_are_refused(table: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        read_oidc(table)


def test_the_api_lets_in_whom_the_provider_vouches_for(issuer: Issuer, tmp_path: Path) -> None:
    made = make_service(tmp_path, oidc=oidc_of(issuer))
    with served(made.app) as url, made.at(url, None) as client:

        def ask(token: str, path: str = "/v1/runs") -> httpx.Response:
            return client.get(path, headers={"Authorization": f"Bearer {token}"})

        assert ask(issuer.sign()).status_code == 200
        assert ask(issuer.sign(), "/metrics").status_code == 403
        assert ask(issuer.sign(roles=["ops"]), "/metrics").status_code == 200
        assert ask(made.tokens["viewer"]).status_code == 200  # our own go on beside it
        refused = ask(issuer.sign(exp=_now(-3600)))
        assert refused.status_code == 401
        assert "expired" not in refused.text  # why is for the log
        asked = {"source": "in/a.mp4", "style": "starry_night"}
        bearer = {"Authorization": f"Bearer {issuer.sign()}"}
        run_id = client.post("/v1/runs", json=asked, headers=bearer).json()["run_id"]
        assert made.runs.get(run_id).user == "oidc:alice"
        assert ask(issuer.sign(sub="bob"), f"/v1/runs/{run_id}").status_code == 404
        issuer.hangs, issuer.keys = True, {}
        away = ask(issuer.sign(kid="new"))
        assert away.status_code == 503
        assert away.headers["Retry-After"] == "10"
