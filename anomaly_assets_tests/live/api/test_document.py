"""The OpenAPI document says what the API does: Schemathesis asks what it allows, and what not."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from anomaly_assets_tests.live.api.serving import serving
from anomaly_assets_tests.pipeline.support import deployment_of

if TYPE_CHECKING:
    from pathlib import Path

    from anomaly_assets.storage.database import Database

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_every_route_keeps_to_the_document(
    database: Database, tmp_path: Path, mode: GenerationMode
) -> None:
    """Whatever is asked, the answer is one the document describes, and never an error of ours."""
    deployment = deployment_of(database, tmp_path)
    generous = {"live_requests_per_second": 1e6}
    deployment.settings = deployment.settings.model_copy(update=generous)
    asked = set()
    with serving(deployment) as served:
        secret = served.client.headers["authorization"]
        document = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
        for found in document.get_all_operations():
            assert isinstance(found, Ok)
            operation = found.ok()
            # Without a pipeline events are refused with 503, which is documented and no failure.
            if operation.path == "/v1/events":
                continue

            @settings(
                max_examples=25,
                deadline=None,
                database=None,
                derandomize=True,
                phases=[Phase.explicit, Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def ask(case: Case[Any]) -> None:
                case.call_and_validate(headers={"Authorization": secret}, checks=CHECKS)

            # A route without parameters cannot be asked wrongly.
            with contextlib.suppress(Unsatisfiable):
                ask()
            asked.add(operation.path)
    assert {"/v1/readings", "/v1/anomalies", "/v1/streams", "/metrics"} <= asked
