-- One named statement a block.

-- name: add_batch
INSERT INTO batches (
  id, app, began, settings, ended, stopped_by, owner, host, pid, process_began, held_until
) VALUES (
  :batch, :app, :began, :settings, :ended, :stopped_by, :owner, :host, :pid, :process_began, :until
) ON CONFLICT (id) DO NOTHING;

-- name: add_run
INSERT INTO runs (
  batch, place, tag, request, phase, checkpoint, outcome, success, cost_usd, updated
) VALUES (
  :batch, :place, :tag, :request, :phase, :checkpoint, :outcome, :success, :cost_usd, :now
);

-- name: holder
SELECT owner, host, pid, process_began, held_until FROM batches WHERE id = :batch;

-- name: hold
-- The one moment in which a batch changes hands: of two processes that come at once, the second finds no row.
UPDATE batches
SET owner = :owner, host = :host, pid = :pid, process_began = :process_began, held_until = :until,
    ended = NULL, stopped_by = :nothing
WHERE id = :batch
  AND (owner IS NULL OR owner = :owner OR owner = :dead OR held_until <= :now);

-- name: renew
UPDATE batches SET held_until = :until WHERE id = :batch AND owner = :owner;

-- name: release
UPDATE batches
SET owner = NULL, host = NULL, pid = NULL, process_began = NULL, held_until = NULL
WHERE id = :batch AND owner = :owner;

-- name: wish
INSERT INTO wishes (batch, verb, place) VALUES (:batch, :verb, :place);

-- name: wishes
SELECT verb, place FROM wishes WHERE batch = :batch ORDER BY number;

-- name: forget_wishes
DELETE FROM wishes WHERE batch = :batch;

-- name: note_event
INSERT INTO events (batch, place, at, kind, data) VALUES (:batch, :place, :at, :kind, :data);

-- name: note_checkpoint
UPDATE runs SET phase = :phase, checkpoint = :checkpoint, updated = :now WHERE batch = :batch AND place = :place;

-- name: note_outcome
UPDATE runs
SET outcome = :outcome, success = :success, cost_usd = :cost_usd, updated = :now
WHERE batch = :batch AND place = :place;

-- name: note_end
UPDATE batches SET ended = :at, stopped_by = :stopped_by WHERE id = :batch;

-- name: ids
SELECT id FROM batches ORDER BY began DESC, number DESC;

-- name: batches
-- All of them, or the one that is named.
SELECT batches.*,
       count(runs.batch) AS total,
       coalesce(sum(runs.success = 1), 0) AS succeeded,
       coalesce(sum(runs.success = 0), 0) AS failed,
       coalesce(sum(runs.cost_usd), 0.0) AS cost_usd
FROM batches LEFT JOIN runs ON runs.batch = batches.id
WHERE :batch IS NULL OR batches.id = :batch
GROUP BY batches.number
ORDER BY began DESC, number DESC;

-- name: runs
SELECT * FROM runs WHERE batch = :batch ORDER BY place;

-- name: events
SELECT number, place, at, kind, data FROM events
WHERE batch = :batch AND number > :after ORDER BY number LIMIT :limit;

-- name: events_of_run
SELECT number, place, at, kind, data FROM events
WHERE batch = :batch AND place = :place AND number > :after ORDER BY number LIMIT :limit;
