"""The sealed form of model state: a pickle, its provenance, and a signature checked before use.

A pickle can run code when it is read and River promises nothing about pickles across versions, so a
snapshot is opened only when its signature, digest, length and versions are right, and then by an
unpickler that knows a short list of classes and nothing else.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import pickle
import re
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import lru_cache
from importlib import metadata
from typing import Any, Final, Protocol

from anomaly_assets.errors import SnapshotRefusedError

#: Version of the sealed form itself.
FORMAT_VERSION = 1
#: Fixed, so that the same state gives the same bytes under every supported Python.
_PICKLE_PROTOCOL = 5

_ALLOWED_PREFIXES = ("anomaly_assets.detection.", "anomaly_assets.streams.")
_ALLOWED = frozenset(
    {
        ("builtins", "bytearray"),
        ("builtins", "complex"),
        ("builtins", "frozenset"),
        ("builtins", "range"),
        ("builtins", "set"),
        ("builtins", "slice"),
        ("collections", "OrderedDict"),
        ("collections", "defaultdict"),
        ("collections", "deque"),
        ("copyreg", "_reconstructor"),
        ("functools", "partial"),
        ("builtins", "object"),
        ("builtins", "tuple"),
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "scalar"),
        ("numpy._core.numeric", "_frombuffer"),
        ("random", "Random"),
    }
)


class Refusal(StrEnum):
    """Why a snapshot is not opened."""

    UNSIGNED = "unsigned"
    SIGNATURE = "signature"
    DIGEST = "digest"
    FORMAT_VERSION = "format_version"
    ENTITY_ID = "entity_id"
    COMPONENT = "component"
    DETECTOR = "detector"
    CATALOGUE_DIGEST = "catalogue_digest"
    RIVER_VERSION = "river_version"
    NUMPY_VERSION = "numpy_version"
    NEWER_CODE = "newer_code"
    CONTENT = "content"


_REPLAYED = "the next run rebuilds the state by replay; nothing has to be done"
#: What to do about each refusal.
ADVICE: Final = {
    Refusal.UNSIGNED: f"it was not made by this package: delete it; {_REPLAYED}",
    Refusal.SIGNATURE: "set ANOMALY_ASSETS_SIGNING_KEY (or signing.key) to the key it was made "
    f"with if it is your own; otherwise {_REPLAYED}",
    Refusal.DIGEST: f"look at the disk and memory it lay in; {_REPLAYED}",
    Refusal.FORMAT_VERSION: f"install the version that made it, or let it be: {_REPLAYED}",
    Refusal.ENTITY_ID: f"it is somebody else's: delete it; {_REPLAYED}",
    Refusal.COMPONENT: f"it is another component's: delete it; {_REPLAYED}",
    Refusal.DETECTOR: f"the detector has changed since; {_REPLAYED}",
    Refusal.CATALOGUE_DIGEST: f"the catalogue has changed since; {_REPLAYED}",
    Refusal.RIVER_VERSION: f"River has another version now; {_REPLAYED}",
    Refusal.NUMPY_VERSION: f"NumPy has another version now; {_REPLAYED}",
    Refusal.NEWER_CODE: f"install that version or a later one again; until then {_REPLAYED}",
    Refusal.CONTENT: f"delete it, and find out who may write to the database; {_REPLAYED}",
}


class Detector(Protocol):
    """Anything whose state is kept: one picklable object that knows its own version."""

    version: int


@dataclass(frozen=True)
class Provenance:
    """What a snapshot was made of and by; part of what is signed.

    Parameters
    ----------
    entity_id, component
        Whose state of which model asset.
    as_of
        Epoch seconds: the state has learnt every window that starts before this.
    detector
        Class and version of the detector, such as ``IndividualDetector/1``.
    catalogue_digest
        Digest of the catalogue it learnt under.
    code_version, river_version, numpy_version
        Installed versions when it was made.
    format_version
        Version of the sealed form.
    """

    entity_id: str
    component: str
    as_of: int
    detector: str
    catalogue_digest: str
    code_version: str
    river_version: str
    numpy_version: str
    format_version: int = FORMAT_VERSION

    @classmethod
    def of(
        cls,
        detector: Detector,
        *,
        entity_id: str,
        component: str,
        as_of: int,
        catalogue_digest: str,
    ) -> Provenance:
        """Describe `detector` as it is now, under the installed versions."""
        return cls(
            entity_id=entity_id,
            component=component,
            as_of=as_of,
            detector=detector_name(detector),
            catalogue_digest=catalogue_digest,
            code_version=_version_of("anomaly-assets"),
            river_version=_version_of("river"),
            numpy_version=_version_of("numpy"),
        )


@dataclass(frozen=True)
class Snapshot:
    """Sealed model state.

    Parameters
    ----------
    provenance
        What it is.
    sha256
        Hex digest of `blob`.
    signature
        HMAC-SHA-256 (hex) over provenance and digest, made with the deployment's key.
    blob
        The pickled detector.
    """

    provenance: Provenance
    sha256: str
    signature: str
    blob: bytes


def detector_name(detector: Detector) -> str:
    """Return class name and state version, such as ``IndividualDetector/1``."""
    return f"{type(detector).__name__}/{detector.version}"


def seal(detector: Detector, provenance: Provenance, key: bytes) -> Snapshot:
    """Pickle and sign `detector`."""
    blob = pickle.dumps(detector, protocol=_PICKLE_PROTOCOL)
    digest = hashlib.sha256(blob).hexdigest()
    return Snapshot(provenance, digest, _signature(provenance, digest, key), blob)


def unseal(snapshot: Snapshot, expected: Provenance, key: bytes) -> Any:  # noqa: ANN401 - any detector
    """Verify a snapshot and return the detector in it.

    Parameters
    ----------
    snapshot
        As it came from the store.
    expected
        What it must be: everything but ``as_of`` and the code version has to agree (the detector's
        own version says when its state changed), and no newer code may have made it.
    key
        The deployment's signing key.

    Raises
    ------
    SnapshotRefusedError
        If it is truncated, tampered with, signed with another key or made under another version,
        always before a byte of it is unpickled; or if it holds a class that no state holds.
    """
    found = snapshot.provenance
    what = f"snapshot of {found.component} for entity {found.entity_id!r}"
    _verify(snapshot, expected, key, what)
    try:
        return _StateUnpickler(io.BytesIO(snapshot.blob)).load()
    except SnapshotRefusedError:
        raise
    except Exception as error:
        msg = f"{what}: cannot be read ({type(error).__name__}: {error})"
        raise SnapshotRefusedError(msg, Refusal.CONTENT) from error


def _verify(snapshot: Snapshot, expected: Provenance, key: bytes, what: str) -> None:
    """Refuse a snapshot that is not what it should be, without reading its contents."""
    found = snapshot.provenance
    if not snapshot.signature:
        msg = f"{what}: it is not signed"
        raise SnapshotRefusedError(msg, Refusal.UNSIGNED)
    # As bytes: texts that are not ASCII cannot be compared in constant time.
    ours = _signature(found, snapshot.sha256, key).encode()
    if not hmac.compare_digest(snapshot.signature.encode(errors="surrogatepass"), ours):
        msg = f"{what}: the signature is not ours (tampered with, or another deployment's key)"
        raise SnapshotRefusedError(msg, Refusal.SIGNATURE)
    if hashlib.sha256(snapshot.blob).hexdigest() != snapshot.sha256:
        msg = (
            f"{what}: the contents do not match their digest ({len(snapshot.blob)} bytes: damaged)"
        )
        raise SnapshotRefusedError(msg, Refusal.DIGEST)
    for name in (
        "format_version",
        "entity_id",
        "component",
        "detector",
        "catalogue_digest",
        "river_version",
        "numpy_version",
    ):
        if getattr(found, name) != getattr(expected, name):
            msg = (
                f"{what}: made under {name} {getattr(found, name)!r}, "
                f"needed is {getattr(expected, name)!r}"
            )
            raise SnapshotRefusedError(msg, Refusal(name))
    if _is_newer(found.code_version, expected.code_version):
        msg = (
            f"{what}: made by version {found.code_version} of the code, newer than the installed "
            f"{expected.code_version}"
        )
        raise SnapshotRefusedError(msg, Refusal.NEWER_CODE)


def _is_newer(version: str, than: str) -> bool:
    """Whether a version is later; what is no version at all counts as such."""
    if version == than:
        return False
    numbers = [re.match(r"\d+(\.\d+)*", text) for text in (version, than)]
    if numbers[0] is None or numbers[1] is None:
        return True
    one, other = (tuple(map(int, found[0].split("."))) for found in numbers if found)
    return one > other


@lru_cache
def _version_of(package: str) -> str:
    # Looked up in files each time; a process does not change its packages.
    return metadata.version(package)


def _signature(provenance: Provenance, digest: str, key: bytes) -> str:
    signed = json.dumps({**asdict(provenance), "sha256": digest}, sort_keys=True).encode()
    return hmac.new(key, signed, hashlib.sha256).hexdigest()


class _StateUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - the signature of pickle
        if (module, name) in _ALLOWED:
            return super().find_class(module, name)
        # A dotted name would lead through a module of ours to those that it imports.
        if module.startswith(_ALLOWED_PREFIXES) and "." not in name:
            found = super().find_class(module, name)
            if isinstance(found, type) and found.__module__.startswith(_ALLOWED_PREFIXES):
                return found
        msg = f"refused to load {module}.{name}: no model state holds it"
        raise SnapshotRefusedError(msg, Refusal.CONTENT)
