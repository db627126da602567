-- Versions of models; with $latest only the newest of each.
SELECT *
FROM model_revision
QUALIFY NOT $latest
    OR row_number() OVER (PARTITION BY model_id ORDER BY seen_at DESC, revision DESC) = 1
ORDER BY model_id, seen_at, revision
