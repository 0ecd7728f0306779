"""Secrets that got into a text by accident, taken out before it is stored."""

import re

_HIDDEN = "***"
_VALUE = r"""[^\s"'&;,<>]+"""
_RULES = [
    # Private keys, over several lines; one whose end is cut is hidden to the end of the text.
    (r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", _HIDDEN),
    # https://user:password@host
    (r"(?i)\b([a-z][a-z0-9+.-]*://)[^\s/@\"']+@", rf"\1{_HIDDEN}@"),
    # Authorization: Bearer …, Basic …, SharedKey account:…; AWS4-HMAC-SHA256 … Signature=…
    (r"(?i)\b(bearer|basic|sharedkey(?:lite)?)\s+[\w.~+/:=-]{8,}", rf"\1 {_HIDDEN}"),
    (r"(?i)\b(authorization[\"']?\s*[:=]\s*[\"']?)(?!bearer|basic|sharedkey)[^\n\"']+",
     rf"\1{_HIDDEN}"),
    # JSON Web Tokens, and keys of the lengths that Azure and AWS give them.
    (r"\beyJ[\w-]+\.[\w-]+\.[\w-]*", _HIDDEN),
    (r"(?<![\w+/])[A-Za-z0-9+/]{86}==", _HIDDEN),
    (r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b", _HIDDEN),
    # sig=… of a shared access signature, X-Amz-Signature=…, AccountKey=…, "client_secret": "…",
    # aws_secret_access_key = …, --token …
    (r"(?i)(?<![\w-])((?:[\w-]*[-_])?(?:sig|signature|credential|password|passwd|pwd|secret|token"
     r"|(?:api|account|access|secret|shared|private|encryption)[-_]?(?:access[-_]?)?key"
     r"|connection[-_]?string|sharedaccesssignature)[\"']?(?:\s*[=:]\s*|\s+(?=[^\s\"']{16}))[\"']?)"
     + _VALUE, rf"\1{_HIDDEN}"),
]  # fmt: skip
_COMPILED = [(re.compile(pattern, re.DOTALL), hidden) for pattern, hidden in _RULES]


def redact(text: str) -> str:
    """`text` with "***" for what looks like a password, a key, a token or a signature."""
    for pattern, hidden in _COMPILED:
        text = pattern.sub(hidden, text)
    return text
