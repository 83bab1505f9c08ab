"""Users of NATS who are known by keys: seeds, and tokens that an account signs."""

import base64
import hashlib
import json
import os
import time
from typing import Any, NamedTuple

import nkeys


class Identity(NamedTuple):
    """A seed and the public key that belongs to it."""

    seed: str
    public: str


def identity(prefix: int = nkeys.PREFIX_BYTE_USER) -> Identity:
    """A new one, of a user unless told otherwise."""
    seed = nkeys.encode_seed(os.urandom(32), prefix)
    pair = nkeys.from_seed(bytearray(seed))
    return Identity(seed.decode(), pair.public_key.decode())


class Operator:
    """Signs for one account, on a server that believes it."""

    def __init__(self) -> None:
        self._operator = identity(nkeys.PREFIX_BYTE_OPERATOR)
        self._system = identity(nkeys.PREFIX_BYTE_ACCOUNT)
        self._account = identity(nkeys.PREFIX_BYTE_ACCOUNT)

    def configuration(self) -> str:
        """Lines for the server's configuration."""
        trusted = _token(self._operator, self._operator.public, {"type": "operator"})
        limits = dict.fromkeys(
            ("subs", "conn", "leaf", "imports", "exports", "data", "payload"), -1
        )
        stored = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)
        own = self._account_token(self._account, {**limits, **stored})
        system = self._account_token(self._system, limits)
        return (
            f"operator: {trusted}\nsystem_account: {self._system.public}\nresolver: MEMORY\n"
            f"resolver_preload: {{ {own}\n {system} }}\n"
        )

    def _account_token(self, account: Identity, limits: dict[str, int]) -> str:
        claims = {"type": "account", "limits": limits}
        return f"{account.public}: {_token(self._operator, account.public, claims)}"

    def credentials(self, seconds: float = 3600) -> str:
        """A credentials file for a new user who is believed for so long."""
        user = identity()
        claims = {"type": "user", "subs": -1, "data": -1, "payload": -1}
        token = _token(self._account, user.public, claims, expires=time.time() + seconds)
        return (
            f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
        )


def _token(signer: Identity, subject: str, claims: dict[str, Any], expires: float = 0) -> str:
    """https://docs.nats.io/running-a-nats-service/nats_admin/security/jwt."""
    body = {
        "iat": int(time.time()),
        "exp": int(expires),
        "iss": signer.public,
        "sub": subject,
        "name": subject,
        "nats": {**claims, "version": 2},
    }
    if not expires:
        del body["exp"]
    digest = hashlib.sha256(json.dumps(body).encode()).digest()
    body["jti"] = base64.b32encode(digest).decode().rstrip("=")
    head = {"typ": "JWT", "alg": "ed25519-nkey"}
    text = f"{_part(json.dumps(head).encode())}.{_part(json.dumps(body).encode())}"
    pair = nkeys.from_seed(bytearray(signer.seed.encode()))
    return f"{text}.{_part(pair.sign(text.encode()))}"


def _part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
