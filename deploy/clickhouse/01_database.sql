-- The database, `engagement` unless configured otherwise. `engagectl init` applies these files in order,
-- one statement per semicolon (so that none may stand in a comment).
CREATE DATABASE IF NOT EXISTS {database};
