-- Evaluations of one version of a model that failed without an answer, since one that gave any.
WITH ended AS (
    SELECT started_at, finished_at, status, n_ok, settings, error
    FROM evaluation_run
    WHERE kind = 'lm-eval' AND model_id = $model_id AND revision = $revision
        AND finished_at IS NOT NULL AND error IS DISTINCT FROM 'interrupted'
),
good AS (
    SELECT max(started_at) AS started_at FROM ended WHERE status = 'finished' OR n_ok > 0
)
SELECT e.finished_at, e.settings, e.error
FROM ended AS e, good AS g
WHERE g.started_at IS NULL OR e.started_at > g.started_at
ORDER BY e.started_at DESC
