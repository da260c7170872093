"""Runs in processes of the code server, as Dagster's own launcher starts them, and looked after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import deserialize_value

if TYPE_CHECKING:
    import dagster as dg

_PATIENCE_SECONDS: Final = 10


class WatchedRunLauncher(DefaultRunLauncher):
    """Dagster's default launcher, which can also tell whether a run's process still lives.

    Without that a run whose process was killed counts as running for ever: it keeps its pool, and
    the sensors, which wait for it, never ask for another one.
    """

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Have Dagster's monitoring ask."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Ask the code server that started the run whether its process is there.

        Monitoring marks a run failed unless it is told that it runs, so that only certainty counts:
        a server that is slow to answer has not lost its runs, and a command in the foreground has
        no server.
        """
        client = self._get_grpc_client_for_termination(run.run_id)  # type: ignore[no-untyped-call]
        if client is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "no code server runs it")
        request = CanCancelExecutionRequest(run_id=run.run_id)
        try:
            answer = client.can_cancel_execution(request, timeout=_PATIENCE_SECONDS)
        except DagsterUserCodeUnreachableError as error:
            if _is_away(error.__cause__):
                return CheckRunHealthResult(WorkerStatus.FAILED, "its code server is gone")
            return CheckRunHealthResult(WorkerStatus.RUNNING, "its code server is slow to answer")
        if deserialize_value(answer, CanCancelExecutionResult).can_cancel:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, "its process is gone")


def _is_away(cause: BaseException | None) -> bool:
    """Whether nobody listens, as opposed to somebody who does not answer in time."""
    code = getattr(cause, "code", None)
    return callable(code) and code().name == "UNAVAILABLE"
