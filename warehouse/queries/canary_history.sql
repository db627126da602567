-- Nights of one version of a model that compare with its newest one: the baseline, then all others.
WITH night AS (
    SELECT run_id, asked_at, baseline_run_id
    FROM canary_night
    WHERE model_id = $model_id AND revision = $revision
),
newest AS (
    SELECT baseline_run_id FROM night ORDER BY asked_at DESC, run_id DESC LIMIT 1
)
SELECT n.run_id, n.asked_at, c.query_id, c.status, c.score, c.response_sha256
FROM night AS n
JOIN newest AS w ON w.baseline_run_id = n.baseline_run_id
JOIN canary AS c ON c.run_id = n.run_id AND c.model_id = $model_id AND c.revision = $revision
ORDER BY n.asked_at, n.run_id, c.query_id
