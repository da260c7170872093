"""What the OpenAPI document says of bodies that are read as a stream."""

from __future__ import annotations

from typing import Any, Final

_READING: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["entity_id", "stream_id", "timestamp", "value"],
    "properties": {
        "entity_id": {
            "type": "string",
            "minLength": 1,
            "maxLength": 200,
            "description": "may be left out with a token of one entity",
        },
        "stream_id": {"type": "string", "description": "a stream of the entity's catalogue"},
        "timestamp": {
            "type": "string",
            "format": "date-time",
            "description": "when it was measured: ISO 8601; UTC where it names no zone",
        },
        "value": {"type": "number"},
    },
    "example": {
        "entity_id": "ann",
        "stream_id": "heart_rate",
        "timestamp": "2026-01-31T08:00:00Z",
        "value": 62,
    },
}

READINGS_BODY: Final[dict[str, Any]] = {
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": "the same key and body get the same answer for a day",
            "schema": {"type": "string", "minLength": 1, "maxLength": 200},
        },
        {
            "name": "Content-Encoding",
            "in": "header",
            "required": False,
            "schema": {"type": "string", "enum": ["identity", "gzip", "zstd"]},
        },
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"anyOf": [_READING, {"type": "array", "items": _READING}]}
            },
            "application/x-ndjson": {
                "schema": {"type": "string", "description": "a reading on each line"},
            },
        },
    },
}
