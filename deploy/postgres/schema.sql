-- The source tables as Engage expects them. A table that is already there is left as it is.
CREATE TABLE IF NOT EXISTS content (
  id             uuid PRIMARY KEY,
  slug           text UNIQUE NOT NULL,
  title          text NOT NULL,
  content_type   text CHECK (content_type IN ('podcast', 'newsletter', 'video')),
  length_seconds integer,
  publish_ts     timestamptz NOT NULL
);
CREATE TABLE IF NOT EXISTS engagement_events (
  id          bigserial PRIMARY KEY,
  content_id  uuid REFERENCES content (id),
  user_id     uuid,
  event_type  text CHECK (event_type IN ('play', 'pause', 'finish', 'click')),
  event_ts    timestamptz NOT NULL DEFAULT now(),
  duration_ms integer,
  device      text,
  raw_payload jsonb
);
