-- Whether the warehouse holds what it didn't when a snapshot was made of it. What was there when
-- somebody went back to the snapshot was left out on purpose. No clock is asked: one that was set
-- back would have every night publish until it is past what it dated later.
WITH shown AS (
    SELECT action, logged_at, detail ->> 'holds' AS holds
    FROM audit_log
    WHERE action IN ('publish', 'snapshot rollback') AND subject = $snapshot_id
),
-- Snapshots of versions that wrote down no `holds` are held to the time at which they were built.
since AS (
    SELECT greatest($created_at, max(logged_at)) AS moment
    FROM shown
    WHERE action = 'snapshot rollback'
)
SELECT CASE WHEN EXISTS (SELECT 1 FROM shown WHERE holds IS NOT NULL)
    THEN NOT EXISTS (SELECT 1 FROM shown WHERE holds = $held)
    ELSE EXISTS (
        SELECT 1
        FROM score_part AS p
        JOIN evaluation_run AS r ON r.run_id = p.run_id
        WHERE r.kind <> 'canary' AND p.merged_at > (SELECT moment FROM since)
    ) OR EXISTS (
        SELECT 1
        FROM model_embedding
        WHERE checkpoint_id = $checkpoint_id AND embedded_at > (SELECT moment FROM since)
    )
END AS behind
