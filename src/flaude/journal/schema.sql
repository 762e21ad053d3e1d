-- The journal's tables. Each block leads from the version before to its own, in one transaction; version 0 is an
-- empty file. A block that was released stays as it is: what changes is a new one.
--
-- Times are ISO 8601 in UTC with microseconds, so that they compare as text. Of the texts, `settings`, `stopped_by`,
-- `tag`, `request`, `checkpoint`, `outcome` and `data` are JSON.

-- version: 1

CREATE TABLE batches (
  number INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  app TEXT NOT NULL,
  began TEXT NOT NULL,
  settings TEXT NOT NULL,
  ended TEXT,
  stopped_by TEXT NOT NULL,
  owner TEXT,
  host TEXT,
  pid INTEGER,
  process_began TEXT,
  held_until TEXT
) STRICT;

CREATE TABLE runs (
  batch TEXT NOT NULL REFERENCES batches (id),
  place INTEGER NOT NULL,
  tag TEXT NOT NULL,
  request TEXT NOT NULL,
  phase TEXT NOT NULL,
  checkpoint TEXT,
  outcome TEXT,
  success INTEGER,
  cost_usd REAL,
  updated TEXT NOT NULL,
  PRIMARY KEY (batch, place)
) STRICT;

-- Counts and sums come from here alone, without reading a request.
CREATE INDEX runs_counted ON runs (batch, success, cost_usd);

CREATE TABLE events (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  batch TEXT NOT NULL,
  place INTEGER NOT NULL,
  at TEXT NOT NULL,
  kind TEXT NOT NULL,
  data TEXT NOT NULL,
  FOREIGN KEY (batch, place) REFERENCES runs (batch, place)
) STRICT;

-- Each has the number as its last column.
CREATE INDEX events_of_batch ON events (batch);
CREATE INDEX events_of_run ON events (batch, place);

CREATE TABLE wishes (
  number INTEGER PRIMARY KEY,
  batch TEXT NOT NULL REFERENCES batches (id),
  verb TEXT NOT NULL,
  place INTEGER
) STRICT;

CREATE INDEX wishes_of_batch ON wishes (batch);
