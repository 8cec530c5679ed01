-- One view per output profile. Times are DateTime64 in UTC: with date_time_output_format = 'iso' they print as RFC 3339.

-- Every field, snake_case.
CREATE VIEW IF NOT EXISTS {database}.events_canonical AS
SELECT
    event_id, content_id, user_id, event_type, device, content_type, event_ts, processed_at, publish_ts,
    duration_ms, length_seconds, engagement_seconds, engagement_ratio, engagement_percent,
    content_title, content_slug, raw_payload, enrichment_status, origin, revision, anomalies,
    src_lane, src_epoch, src_partition, src_offset, src_commit_lsn, src_lsn, src_committed_at
FROM {database}.events;

-- engagement_pct is the ratio, four decimal places.
CREATE VIEW IF NOT EXISTS {database}.events_ratio4 AS
SELECT
    event_id AS id, content_id, user_id, event_type, event_ts, duration_ms, device, content_type, length_seconds,
    engagement_seconds, engagement_ratio AS engagement_pct
FROM {database}.events;

-- engagement_pct is the ratio, two decimal places half-up from the integers (rounding the four-digit ratio again
-- would be wrong for 0.12499996). Both derived fields are NULL when duration or length is missing.
CREATE VIEW IF NOT EXISTS {database}.events_ratio2 AS
WITH
    abs(toInt128(e.duration_ms)) AS magnitude,
    toInt128(e.length_seconds) * 10 AS hundredth,
    toInt64(sign(e.duration_ms) * intDivOrZero(2 * magnitude + hundredth, 2 * hundredth)) AS ratio_in_hundredths
SELECT
    event_id, content_id, user_id, event_type, toDateTime64(toStartOfSecond(e.event_ts), 0, 'UTC') AS event_ts, duration_ms, device,
    content_type, length_seconds,
    if(e.length_seconds IS NULL, NULL, e.engagement_seconds) AS engagement_seconds,
    if(e.engagement_ratio IS NULL, NULL, toDecimal64(ratio_in_hundredths, 2) / 100) AS engagement_pct
FROM {database}.events AS e;

-- engagement_pct is the percent, two decimal places.
CREATE VIEW IF NOT EXISTS {database}.events_percent2 AS
SELECT
    event_id, content_id, user_id, event_type, event_ts, duration_ms, device, content_type, length_seconds,
    engagement_seconds, engagement_percent AS engagement_pct, content_title, content_slug, publish_ts, raw_payload
FROM {database}.events;

-- engagement_percentage is the percent, two decimal places.
CREATE VIEW IF NOT EXISTS {database}.events_percentage AS
SELECT
    content_id, content_title, content_type, length_seconds AS content_length_seconds, user_id, event_type,
    engagement_seconds, engagement_percent AS engagement_percentage, device, processed_at, event_id, event_ts
FROM {database}.events;
