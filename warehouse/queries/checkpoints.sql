-- Checkpoints, the newest first, each with the newest decision about it.
SELECT c.*, d.decided_at, d.kind, d.promoted, d.reason
FROM checkpoint AS c
LEFT JOIN (
    FROM checkpoint_decision
    QUALIFY row_number() OVER (PARTITION BY candidate ORDER BY decided_at DESC) = 1
) AS d ON d.candidate = c.checkpoint_id
ORDER BY c.created_at DESC, c.checkpoint_id
