-- Whether scores came in or models were placed after a snapshot was built. Canaries are no scores.
-- What was there when somebody went back to the snapshot was left out on purpose.
WITH since AS (
    SELECT greatest($created_at, max(logged_at)) AS moment
    FROM audit_log
    WHERE action = 'snapshot rollback' AND subject = $snapshot_id
)
SELECT EXISTS (
    SELECT 1
    FROM score_part AS p
    JOIN evaluation_run AS r ON r.run_id = p.run_id
    WHERE r.kind <> 'canary' AND p.merged_at > (SELECT moment FROM since)
) OR EXISTS (
    SELECT 1
    FROM model_embedding
    WHERE checkpoint_id = $checkpoint_id AND embedded_at > (SELECT moment FROM since)
) AS behind
