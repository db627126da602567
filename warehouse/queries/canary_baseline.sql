-- Questions of the newest baseline of one version of a model.
SELECT c.query_id
FROM canary AS c
WHERE c.model_id = $model_id AND c.revision = $revision
    AND c.run_id = (
        SELECT baseline_run_id
        FROM canary_night
        WHERE model_id = $model_id AND revision = $revision AND baseline_run_id IS NOT NULL
        ORDER BY asked_at DESC, run_id DESC
        LIMIT 1
    )
ORDER BY c.query_id
