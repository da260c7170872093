"""Rows of an entity in every table that can hold some."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import psycopg

from anomaly_assets.storage.partitions import ensure_partitions

if TYPE_CHECKING:
    from anomaly_assets.storage.database import Database

AT: Final = datetime(2026, 3, 4, 5, tzinfo=UTC)
_ROWS: Final = """
INSERT INTO entities (entity_id) VALUES (%(entity)s);
INSERT INTO readings (entity_id, event_time, stream_id, value, source) SELECT %(entity)s, %(at)s +
    n * interval '1 second', 'steps', n / 3.0, %(entity)s || '.csv' FROM generate_series(1,
    %(readings)s) AS n;
INSERT INTO readings_hourly VALUES (%(entity)s, %(at)s, 'steps', 2, 0, 1, 1, 1, 2, 1, %(at)s,
    %(at)s);
INSERT INTO time_series_data VALUES (%(entity)s, %(at)s, 'steps', 1, false, NULL);
INSERT INTO anomaly_scores (entity_id, timestamp, stream_id, method, anomaly_score, metadata)
    VALUES (%(entity)s, %(at)s, '_entity', 'ensemble', 0.5, '{"n": 1}');
INSERT INTO causal_explanations (entity_id, timestamp, anomaly_id, episode_end, windows, ongoing,
    summary, mode, trigger) VALUES (%(entity)s, %(at)s, gen_random_uuid(),
    %(at)s + interval '5 minutes', 1, false, 'why', 'fast', 'forced');
INSERT INTO stream_health VALUES (%(entity)s, %(at)s, 'steps', 1, 0, 1, 'none', true, NULL, false,
    NULL);
INSERT INTO gap_patterns VALUES (%(entity)s, %(at)s, 'night', '{}', NULL, false, NULL, '[]',
    '{0.1,NaN}', '{1}', '{}', 'layout');
INSERT INTO labels (entity_id, start_time, end_time, stream_ids, verdict) VALUES (%(entity)s,
    %(at)s, %(at)s + interval '1 hour', '{steps}', 'expected');
INSERT INTO rejected_readings (entity_id, stream_id, event_time, raw, reason, detail, source,
    row_number) VALUES (%(entity)s, 'steps', %(at)s, 'x', 'not_a_number', 'no number', %(entity)s
    || '.csv', 7);
INSERT INTO model_snapshots VALUES (%(entity)s, 'tier1_models', %(at)s, 1, 'd', 'c', '1', '2',
    '3', 'sha', 'signed', 3, 'abc', now(), 'test');
INSERT INTO model_actions (entity_id, component, kind, as_of, who, why, outcome, details,
    finished_at) VALUES (%(entity)s, 'tier1_models', 'pin', %(at)s, 'cyd', 'good', 'done', '{}',
    now());
INSERT INTO model_pins (entity_id, version, pinned_by, reason) SELECT entity_id, version, 'cyd',
    'good' FROM model_snapshots WHERE entity_id = %(entity)s;
INSERT INTO model_archive (entity_id, version, component, as_of, format_version, detector,
    catalogue_digest, code_version, river_version, numpy_version, sha256, signature, size, blob,
    created_at, created_by) SELECT entity_id, version, component, as_of, format_version, detector,
    catalogue_digest, code_version, river_version, numpy_version, sha256, signature, size, blob,
    created_at, created_by FROM model_snapshots WHERE entity_id = %(entity)s;
INSERT INTO superseded_results (entity_id, action_id, timestamp, stream_id, method) VALUES
    (%(entity)s, 1, %(at)s, '_entity', 'ensemble');
INSERT INTO late_windows VALUES (%(entity)s, %(at)s, now(), 1);
INSERT INTO causal_networks (entity_id, fitted_at, network, n_windows) VALUES (%(entity)s, %(at)s,
    '{}', 288);
INSERT INTO suggestions (entity_id, kind, subject, payload, support, first_seen, last_seen) VALUES
    (%(entity)s, 'edge', 'a -> b', '{}', 0.9, %(at)s, %(at)s);
INSERT INTO feedback_versions (scope, is_meta, action, from_time, trust, rules, label_ids, effect,
    author) VALUES (%(entity)s, false, 'recalibrate', %(at)s, '{"steps": 0.5}', '[]', '{1}', '{}',
    'cyd');
INSERT INTO window_decisions (entity_id, timestamp, score, threshold, trigger_code, is_alarm,
    suppressed_by, option, feedback_id) VALUES (%(entity)s, %(at)s, 0.6, 0.7, 1, false, 'habit',
    'A', 1);
INSERT INTO rule_suggestions (entity_id, name, rule, effect, contradicted_by) VALUES (%(entity)s,
    'habit', '{}', '{}', '{1}');
INSERT INTO api_tokens (name, entity_id, digest, may_read, may_write) VALUES ('phone', %(entity)s,
    sha256(%(entity)s::bytea), true, true);
INSERT INTO idempotency_keys (token_id, key, request_digest) SELECT token_id, 'own',
    sha256('body') FROM api_tokens WHERE entity_id = %(entity)s;
INSERT INTO idempotency_keys VALUES (0, %(entity)s || '-by-all', sha256('body'), now(), 202,
    convert_to('{"entity_id":"' || %(entity)s || '"}', 'UTF8'), now());
INSERT INTO alerts (alert_key, entity_id, rule, severity, status, first_seen, last_seen, summary,
    details) VALUES (%(entity)s || '/k', %(entity)s, 'r', 'info', 'sent', %(at)s, %(at)s, 's',
    '{}');
INSERT INTO alert_snoozes (entity_id, ends_at, author) VALUES (%(entity)s, now() + interval '1 h',
    'cyd');
INSERT INTO webhooks (url, entity_id, events) VALUES ('https://chat.example:444/secret?key=1',
    %(entity)s, '{window}');
INSERT INTO ingest_progress (job, through_row, source, counts) VALUES (%(entity)s, 1, %(entity)s
    || '.csv', '{}')
"""


def store_everything(database: Database, entity_id: str, *, readings: int = 3) -> None:
    """Store at least a row of an entity in every table."""
    parameters = {"entity": entity_id, "at": AT, "readings": readings}
    with database.connect() as connection:
        ensure_partitions(connection, AT, AT)
        # Written into the statement by the client, a name fits wherever one may stand.
        cursor = psycopg.ClientCursor(connection)
        for statement in _ROWS.split(";\n"):
            cursor.execute(statement, parameters)
