-- The current state: the last revision of every event, without deleted ones. An event_type that was NULL is NULL again.
-- All rows of one sort key have the same event_ts, so table partitions need not be merged with each other.
CREATE VIEW IF NOT EXISTS {database}.events AS
SELECT
    event_id, content_id, user_id, nullIf(event_type, '') AS event_type, device, content_type, event_ts, processed_at, publish_ts,
    duration_ms, length_seconds, engagement_seconds, engagement_ratio, engagement_percent,
    engagement_ratio AS engagement_pct, content_title, content_slug, raw_payload, enrichment_status, origin,
    revision, anomalies, src_lane, src_epoch, src_partition, src_offset, src_commit_lsn, src_lsn,
    src_committed_at, ingested_at
FROM {database}.events_enriched FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1;

-- The last ten minutes by event time, one row per content.
CREATE VIEW IF NOT EXISTS {database}.content_10m AS
SELECT
    content_id,
    argMax(e.content_title, e.event_ts) AS content_title,
    argMax(e.content_type, e.event_ts) AS content_type,
    count() AS events,
    countIf(event_type = 'play') AS plays,
    countIf(event_type = 'pause') AS pauses,
    countIf(event_type = 'finish') AS finishes,
    countIf(event_type = 'click') AS clicks,
    uniqExact(user_id) AS users,
    sum(e.duration_ms) AS duration_ms,
    sum(e.engagement_seconds) AS engagement_seconds,
    avg(engagement_percent) AS mean_percent,
    max(event_ts) AS last_event_ts
FROM {database}.events AS e
WHERE content_id IS NOT NULL AND event_ts > now64(6) - INTERVAL 10 MINUTE AND event_ts <= now64(6)
GROUP BY content_id;

-- One row per hour (UTC, event time) and content.
CREATE VIEW IF NOT EXISTS {database}.content_hourly AS
SELECT
    toStartOfHour(event_ts) AS hour,
    content_id,
    argMax(e.content_title, e.event_ts) AS content_title,
    argMax(e.content_type, e.event_ts) AS content_type,
    count() AS events,
    countIf(event_type = 'play') AS plays,
    countIf(event_type = 'pause') AS pauses,
    countIf(event_type = 'finish') AS finishes,
    countIf(event_type = 'click') AS clicks,
    uniqExact(user_id) AS users,
    sum(e.duration_ms) AS duration_ms,
    sum(e.engagement_seconds) AS engagement_seconds,
    avg(engagement_percent) AS mean_percent
FROM {database}.events AS e
GROUP BY hour, content_id;
