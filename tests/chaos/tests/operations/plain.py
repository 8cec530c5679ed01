"""A backfill as a data engineer would write it in an afternoon: a server-side cursor, a lookup of contents, executemany.

`plain.py STYLE ROWS`. With placeholders, as one writes it for any database, the driver sends a statement for each row; without
them it sends a block of a thousand. It prints how many rows it wrote and the seconds that took. It repeats nothing, resumes
nothing and compares nothing.
"""

import os
import sys
import time
from datetime import datetime, timezone
from decimal import ROUND_HALF_UP, Decimal
from urllib.parse import urlparse

import clickhouse_connect.dbapi
import psycopg

BATCH = 1000
COLUMNS = (
    "event_id, content_id, event_ts, deleted, src_row, user_id, event_type, device, content_type, processed_at, duration_ms, "
    "length_seconds, engagement_seconds, engagement_ratio, engagement_percent, content_title, content_slug, "
    "enrichment_status, origin, revision, src_lane, src_epoch, src_partition, src_offset, src_commit_lsn, src_lsn, "
    "src_committed_at"
)


def enriched(row, contents, now):
    """The columns of one event, exact as the table wants them."""
    event_id, content_id, user_id, event_type, event_ts, duration_ms, device = row
    title, slug, kind, length = contents.get(content_id, (None, None, None, None))
    seconds = ratio = percent = None
    if duration_ms is not None:
        seconds = Decimal(duration_ms) / 1000
        if length:
            share = Decimal(duration_ms) / (1000 * length)
            ratio = share.quantize(Decimal("0.0001"), ROUND_HALF_UP)
            percent = (share * 100).quantize(Decimal("0.01"), ROUND_HALF_UP)
    return (
        event_id, content_id and str(content_id), event_ts, 0, 1, user_id and str(user_id), event_type, device, kind, now,
        duration_ms, length, seconds, ratio, percent, title, slug, "OK" if title else "MISSING", "BACKFILL", 0, "backfill", 0,
        0, 0, 0, 0, now,
    )  # fmt: skip


def main():
    url = urlparse(os.environ["CLICKHOUSE_URL"])
    database = os.environ["CLICKHOUSE_DATABASE"]
    clickhouse = clickhouse_connect.dbapi.connect(
        host=url.hostname,
        port=url.port,
        username=os.environ["CLICKHOUSE_USER"],
        password=os.environ["CLICKHOUSE_PASSWORD"],
        database=database,
    ).cursor()
    style, limit = sys.argv[1], int(sys.argv[2])
    table = f"{database}.events_plain_{style}"
    clickhouse.execute(f"CREATE TABLE {table} AS {database}.events_enriched")
    insert = f"INSERT INTO {table} ({COLUMNS}) VALUES"
    if style == "placeholders":
        places = ", ".join(["%s"] * len(COLUMNS.split(",")))
        insert += f" ({places})"
    began, written = time.monotonic(), 0
    with psycopg.connect(os.environ["DATABASE_URL"]) as postgres:
        contents = {
            content_id: rest
            for content_id, *rest in postgres.execute("SELECT id, title, slug, content_type, length_seconds FROM content")
        }
        cursor = postgres.cursor(name="backfill")
        cursor.itersize = BATCH
        cursor.execute(
            "SELECT id, content_id, user_id, event_type, event_ts, duration_ms, device FROM engagement_events "
            "WHERE event_ts >= now() - interval '3 days' AND event_ts < now() - interval '1 day' AND device = 'web' LIMIT %s",
            (limit,),
        )
        while rows := cursor.fetchmany(BATCH):
            now = datetime.now(timezone.utc)
            clickhouse.executemany(insert, [enriched(row, contents, now) for row in rows])
            written += len(rows)
    print(written, time.monotonic() - began)


main()
