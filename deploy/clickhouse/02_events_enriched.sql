-- One row per event. A change of an event is a row with a higher revision under the same sort key. A change of
-- the sort key itself adds a row with deleted = 1 under the old one. Where rows are only inserted, this table
-- holds each event exactly once. With updates and deletions the view `events` does.
-- event_id has the type of the source key: Int64, UUID or String.
-- For a limited history: ALTER TABLE {database}.events_enriched MODIFY TTL toDateTime(event_ts) + INTERVAL 400 DAY
CREATE TABLE IF NOT EXISTS {database}.events_enriched
(
    event_id            {event_id_type},
    content_id          Nullable(String),
    event_ts            DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    deleted             UInt8,
    src_row             UInt8 COMMENT '1 = the event, others = deletions of what it replaces',
    user_id             Nullable(String) CODEC(ZSTD(1)),
    event_type          LowCardinality(String),
    device              LowCardinality(Nullable(String)),
    content_type        LowCardinality(Nullable(String)),
    processed_at        DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    publish_ts          Nullable(DateTime64(6, 'UTC')) CODEC(ZSTD(1)),
    duration_ms         Nullable(Int64),
    length_seconds      Nullable(Int64),
    engagement_seconds  Nullable(Decimal(18, 3)) COMMENT 'duration_ms / 1000',
    engagement_ratio    Nullable(Decimal(18, 4)) COMMENT 'share of the content, half-up from integers, not clamped',
    engagement_percent  Nullable(Decimal(18, 2)) COMMENT 'the same share in percent',
    engagement_pct      Nullable(Decimal(18, 4)) ALIAS engagement_ratio,
    content_title       Nullable(String) CODEC(ZSTD(1)),
    content_slug        Nullable(String) CODEC(ZSTD(1)),
    raw_payload         Nullable(String) CODEC(ZSTD(3)),
    enrichment_status   LowCardinality(String) COMMENT 'OK, MISSING, NO_CONTENT',
    origin              LowCardinality(String) COMMENT 'STREAM, SNAPSHOT, BACKFILL',
    revision            UInt64 COMMENT 'epoch in the top 8 bits, LSN of the change below',
    anomalies           Array(LowCardinality(String)),
    src_lane            LowCardinality(String) COMMENT 'live, backfill, redrive',
    src_epoch           UInt8,
    src_partition       Int32,
    src_offset          Int64 CODEC(Delta(8), ZSTD(1)),
    src_commit_lsn      UInt64 CODEC(ZSTD(1)),
    src_lsn             UInt64 CODEC(ZSTD(1)),
    src_committed_at    DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    ingested_at         DateTime64(6, 'UTC') DEFAULT now64(6) CODEC(Delta(8), ZSTD(1)),
    INDEX by_position   (src_partition, src_offset) TYPE minmax GRANULARITY 1,
    INDEX by_commit     src_commit_lsn TYPE minmax GRANULARITY 1,
    INDEX by_event      event_id TYPE minmax GRANULARITY 1,
    INDEX one_event     event_id TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = ReplacingMergeTree(revision, deleted)
PARTITION BY toYYYYMM(event_ts)
ORDER BY (event_ts, content_id, event_id)
-- An insert is answered after its part is on the disk, so that the log may be forgotten.
SETTINGS allow_nullable_key = 1, fsync_after_insert = 1, fsync_part_directory = 1;

-- Who may write a partition of the log: whoever holds the highest (generation, owner). Whoever was followed by another
-- holder writes nothing any more, however late its insert arrives. One row per partition.
CREATE TABLE IF NOT EXISTS {database}.events_enriched_fences
(
    lane      LowCardinality(String),
    partition Int32,
    holder    SimpleAggregateFunction(max, Tuple(generation UInt64, owner UInt64)),
    taken_at  SimpleAggregateFunction(max, DateTime64(6, 'UTC')) DEFAULT now64(6)
)
ENGINE = AggregatingMergeTree
ORDER BY (lane, partition)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
