-- What one version of a model was asked, each query once: ok before any other status, then newest;
-- and how often. A run asks a query once, however often it sends it.
SELECT query_id, status, count(*) OVER (PARTITION BY query_id) AS tries
FROM score
WHERE model_id = $model_id AND revision = $revision
QUALIFY row_number() OVER (
    PARTITION BY query_id ORDER BY status = 'ok' DESC, scored_at DESC, run_id DESC, status
) = 1
ORDER BY query_id
