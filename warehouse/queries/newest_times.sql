-- The newest time (UTC) of each kind that clocks have written.
SELECT what, moment
FROM (
    SELECT 'score' AS what, max(scored_at) AS moment FROM score
    UNION ALL SELECT 'part', max(merged_at) FROM score_part
    UNION ALL SELECT 'run', max(started_at) FROM evaluation_run
    UNION ALL SELECT 'snapshot', max(created_at) FROM snapshot
    UNION ALL SELECT 'audit entry', max(logged_at) FROM audit_log
)
WHERE moment IS NOT NULL
ORDER BY moment DESC
