"""The deployment's signing key."""

from __future__ import annotations

import hmac
import os
import secrets
from typing import TYPE_CHECKING

from anomaly_assets.errors import SettingsError

if TYPE_CHECKING:
    from anomaly_assets.settings import Settings

_SHORTEST = 16


def fingerprint(key: bytes) -> str:
    """Return 16 hexadecimal digits by which a key is recognised, and not found out."""
    return hmac.new(key, b"anomaly-assets key fingerprint", "sha256").hexdigest()[:16]


def signing_key(settings: Settings) -> bytes:
    """Return the key that signs snapshots, making one in the home folder at the first call.

    Raises
    ------
    SettingsError
        If the configured key is too short to sign with, or the key file is unusable.
    """
    if settings.signing_key is not None:
        key = settings.signing_key.get_secret_value().encode()
        source = "ANOMALY_ASSETS_SIGNING_KEY"
    else:
        path = settings.home / "signing.key"
        if not path.exists():
            settings.home.mkdir(parents=True, exist_ok=True)
            draft = path.with_suffix(f".{os.getpid()}")
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(32))
            # link() refuses an existing target: of two first processes one key wins, for both.
            try:
                os.link(draft, path)
            except FileExistsError:
                pass
            finally:
                draft.unlink()
        key = path.read_bytes().strip()
        source = str(path)
    if len(key) < _SHORTEST:
        msg = f"{source}: a signing key has at least {_SHORTEST} characters, not {len(key)}"
        raise SettingsError(msg)
    return key
