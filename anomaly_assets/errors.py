"""Every error this package raises on purpose, under one base class.

Each message says what was wrong, where (stream, row, setting, window) and what to do about it.
"""

from __future__ import annotations


class AnomalyAssetsError(Exception):
    """Base of all errors raised on purpose by :mod:`anomaly_assets`."""


class SettingsError(AnomalyAssetsError):
    """A setting (environment variable or ``.env`` entry) is unusable."""


class CatalogueError(AnomalyAssetsError):
    """A stream catalogue is refused; the message names file, line, stream and reason."""


class InputError(AnomalyAssetsError, ValueError):
    """Data handed to a public function has the wrong shape, type or order."""


class IngestionError(AnomalyAssetsError):
    """A file cannot be read as readings at all (single bad rows are rejected, not raised)."""


class StorageError(AnomalyAssetsError):
    """The database refused or lost something; nothing was half-written."""


class StateError(AnomalyAssetsError):
    """Model state is unusable or out of order."""


class RetentionError(StateError):
    """Something is asked for that readings would be needed for which retention has dropped."""


class EntityForgottenError(StateError):
    """An entity was deleted while something was being written of it."""


class SnapshotRefusedError(StateError):
    """A snapshot failed verification (signature, digest, version, length) before unpickling.

    Parameters
    ----------
    message
        What was wrong with which snapshot.
    reason
        The kind of refusal, one of :class:`~anomaly_assets.state.format.Refusal`.
    """

    def __init__(self, message: str, reason: str = "content") -> None:
        super().__init__(message)
        self.reason = reason


class EvaluationError(AnomalyAssetsError):
    """A labelled data set or an evaluation request is unusable."""
