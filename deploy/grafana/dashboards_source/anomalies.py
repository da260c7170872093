"""What was anomalous, why, and what people said of it."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as models

from .panels import (
    LOW_IS_GOOD,
    OURS,
    Made,
    bars,
    board,
    choice,
    listing,
    one_value,
    over_time,
    rows,
)
from .panels import series as asked

_ENTITY = "entity_id IN (${entity:sqlstring})"
_FINAL = f"method = 'ensemble' AND {_ENTITY} AND $__timeFilter(timestamp)"
_ABOVE = "anomaly_score > ${threshold:raw}"
_EPISODES = f"{_ENTITY} AND $__timeFilter(timestamp)"


def anomalies() -> dashboard.Dashboard:
    """Return the dashboard of scores, episodes and explanations."""
    made = (
        board("anomaly-assets-anomalies", "Anomalies", "What was anomalous, and why.")
        .with_variable(
            choice(
                "entity", "Entity", "SELECT entity_id FROM entities ORDER BY last_reading_at DESC"
            )
        )
        .with_variable(_text("threshold", "Anomalous above", "0.7"))
        .with_variable(_text("live_url", "Live API", "http://127.0.0.1:8000"))
        .annotation(Made(_alerts()))
    )
    for part in (_stats, _scores, _episodes, _why, _course, _judged):
        made = part(made)
    return made


def _text(name: str, label: str, value: str) -> dashboard.TextBoxVariable:
    option = models.VariableOption(selected=True, text=value, value=value)
    return dashboard.TextBoxVariable(name).label(label).default_value(value).current(option)


def _alerts() -> _Annotation:
    return _Annotation(
        f"""
        SELECT first_seen AS "time", last_seen AS timeend, summary AS text, rule AS tags
        FROM alerts WHERE $__timeFilter(first_seen) AND ({_ENTITY} OR entity_id = '')
        """
    )


class _Annotation(models.AnnotationQuery):
    """Marks over all panels by SQL, whose target the kit has no type for."""

    def __init__(self, query: str) -> None:
        super().__init__("Alerts", OURS, enable=True, hide=False, icon_color="red")
        self._query = query

    def to_json(self) -> dict[str, object]:
        """Return it as Grafana stores it."""
        return {**super().to_json(), "target": rows(self._query).build().to_json()}


def _stats(made: dashboard.Dashboard) -> dashboard.Dashboard:
    made = made.with_row(dashboard.Row("In this time"))
    for panel in (
        one_value(
            "Anomalous windows",
            rows(
                f"""
                SELECT count(*) FILTER (WHERE {_ABOVE}) AS windows FROM anomaly_scores
                WHERE {_FINAL}
                """
            ),
        ),
        one_value(
            "Share anomalous",
            rows(
                f"SELECT avg(({_ABOVE})::int)::float8 AS share FROM anomaly_scores WHERE {_FINAL}"
            ),
            unit="percentunit",
            steps=LOW_IS_GOOD,
        ),
        one_value(
            "Episodes explained",
            rows(f"SELECT count(*) AS episodes FROM causal_explanations WHERE {_EPISODES}"),
        ),
        one_value(
            "Going on",
            rows(
                f"""
                SELECT count(*) FILTER (WHERE ongoing) AS episodes FROM causal_explanations
                WHERE {_EPISODES}
                """
            ),
        ),
        one_value(
            "Confidence of explanations",
            rows(
                f"SELECT avg(confidence) AS confidence FROM causal_explanations WHERE {_EPISODES}"
            ),
            unit="percentunit",
        ),
        one_value(
            "False alarms",
            rows(
                f"""
                SELECT (count(*) FILTER (WHERE verdict = 'false_alarm'))::float8
                    / nullif(count(*), 0) AS share
                FROM labels WHERE undone_at IS NULL AND {_ENTITY} AND $__timeFilter(start_time)
                """
            ),
            unit="percentunit",
            steps=LOW_IS_GOOD,
            about="Share of the labels of this time that say so.",
        ),
    ):
        made = made.with_panel(panel)
    return made


def _scores(made: dashboard.Dashboard) -> dashboard.Dashboard:
    line = [(None, "transparent"), (0.7, "red")]
    return (
        made.with_row(dashboard.Row("Scores"))
        .with_panel(
            over_time(
                "Final score",
                [
                    asked(
                        f"""
                        SELECT $__timeGroup(timestamp, $__interval) AS "time",
                            entity_id AS metric, max(anomaly_score) AS score
                        FROM anomaly_scores WHERE {_FINAL} GROUP BY 1, 2 ORDER BY 1, 2
                        """
                    )
                ],
                share=True,
                steps=line,
                width=24,
                about="Where several windows share a point, the highest of them.",
            )
        )
        .with_panel(
            over_time(
                "Tiers",
                [
                    asked(
                        f"""
                        SELECT $__timeGroup(timestamp, $__interval) AS "time", CASE method
                            WHEN 'river_individual' THEN 'streams alone'
                            WHEN 'river_multivariate' THEN 'streams together'
                            ELSE 'final' END AS metric, max(anomaly_score) AS score
                        FROM anomaly_scores WHERE {_ENTITY} AND $__timeFilter(timestamp)
                            AND (method <> 'river_multivariate' OR stream_id = '_entity')
                        GROUP BY 1, 2 ORDER BY 1, 2
                        """
                    )
                ],
                share=True,
                steps=line,
            )
        )
        .with_panel(
            over_time(
                "Share of streams observed",
                [
                    asked(
                        f"""
                        SELECT $__timeGroup(timestamp, $__interval) AS "time",
                            entity_id AS metric, avg(confidence) AS observed
                        FROM anomaly_scores WHERE {_FINAL} GROUP BY 1, 2 ORDER BY 1, 2
                        """
                    )
                ],
                unit="percentunit",
                share=True,
                about="A score of few streams says less.",
            )
        )
    )


def _episodes(made: dashboard.Dashboard) -> dashboard.Dashboard:
    return made.with_row(dashboard.Row("Episodes")).with_panel(
        listing(
            "Episodes and why",
            rows(
                f"""
                SELECT timestamp AS "begin", episode_end AS "end", entity_id AS entity,
                    peak_score AS peak, windows, summary AS what, primary_cause AS cause,
                    confidence, recommended_action AS "what to do",
                    anomaly_id::text AS explanation, ongoing
                FROM causal_explanations WHERE {_EPISODES} ORDER BY timestamp DESC LIMIT 500
                """
            ),
            height=12,
            units={"confidence": "percentunit"},
            coloured={"peak": [(None, "#EAB839"), (0.9, "red")]},
            links={
                "explanation": "${live_url:raw}/v1/explanations/${__value.raw}",
                "entity": "/d/anomaly-assets-streams?var-entity=${__value.raw}"
                "&from=${__from}&to=${__to}",
            },
            widths={"what": 500, "what to do": 300, "begin": 160, "end": 160},
        )
    )


def _why(made: dashboard.Dashboard) -> dashboard.Dashboard:
    return (
        made.with_row(dashboard.Row("Causes"))
        .with_panel(
            bars(
                "Most frequent causes",
                rows(
                    f"""
                    SELECT coalesce(primary_cause, 'unknown') AS cause, count(*) AS episodes
                    FROM causal_explanations WHERE {_EPISODES}
                    GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 15
                    """
                ),
            )
        )
        .with_panel(
            listing(
                "Streams that stand out",
                rows(
                    f"""
                    SELECT s.stream_id AS stream, count(*) AS windows,
                        max(s.anomaly_score) AS highest
                    FROM anomaly_scores AS f JOIN anomaly_scores AS s
                        ON s.entity_id = f.entity_id AND s.timestamp = f.timestamp
                        AND s.method = 'river_individual' AND s.{_ABOVE}
                        AND $__timeFilter(s.timestamp)
                    WHERE f.method = 'ensemble' AND f.{_ABOVE}
                        AND f.{_ENTITY} AND $__timeFilter(f.timestamp)
                    GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 20
                    """
                ),
                width=12,
                height=8,
                about="In the anomalous windows, by their own scores.",
            )
        )
    )


def _course(made: dashboard.Dashboard) -> dashboard.Dashboard:
    newest = f"""(SELECT * FROM causal_explanations WHERE {_EPISODES}
        ORDER BY timestamp DESC LIMIT 20)"""
    return made.with_panel(
        listing(
            "How it came about",
            rows(
                f"""
                    SELECT e.timestamp AS "begin", e.entity_id AS entity,
                        to_timestamp((step ->> 'at')::bigint) AS "at",
                        step ->> 'stream' AS stream, step ->> 'text' AS what
                    FROM {newest} AS e
                    CROSS JOIN LATERAL jsonb_array_elements(e.temporal_sequence) AS step
                    ORDER BY e.timestamp DESC, "at"
                    """
            ),
            width=12,
            about="Of the newest twenty episodes: what happened in the minutes before.",
        )
    ).with_panel(
        listing(
            "What else it may have been",
            rows(
                f"""
                    SELECT e.timestamp AS "begin", e.entity_id AS entity,
                        other ->> 'title' AS explanation,
                        (other ->> 'probability')::float8 AS probability
                    FROM {newest} AS e
                    CROSS JOIN LATERAL jsonb_array_elements(e.alternative_explanations) AS other
                    ORDER BY e.timestamp DESC, probability DESC
                    """
            ),
            width=12,
            units={"probability": "percentunit"},
        )
    )


def _judged(made: dashboard.Dashboard) -> dashboard.Dashboard:
    return made.with_row(dashboard.Row("What people said")).with_panel(
        listing(
            "Labels",
            rows(
                f"""
                SELECT start_time AS "begin", end_time AS "end", entity_id AS entity, verdict,
                    title AS cause, reason, author AS "by", created_at AS "said"
                FROM labels WHERE undone_at IS NULL AND {_ENTITY}
                    AND $__timeFilter(start_time)
                ORDER BY start_time DESC LIMIT 200
                """
            ),
        )
    )
