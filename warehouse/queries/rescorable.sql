-- Current answers to a task whose score is not $metric under $filter, with what it takes to score
-- them anew; NULL $models takes all. Imports are left out: what they call a response is as others
-- wrote it down.
WITH current AS (
    SELECT l.*, q.task_version
    FROM latest_score AS l
    JOIN query AS q ON q.query_id = l.query_id
    JOIN evaluation_run AS e ON e.run_id = l.run_id
    WHERE l.status = 'ok' AND q.task = $task AND e.kind NOT LIKE 'import%'
        AND (l.metric IS DISTINCT FROM $metric OR l.filter IS DISTINCT FROM $filter)
        AND ($models::VARCHAR[] IS NULL OR l.model_id IN (SELECT unnest($models::VARCHAR[])))
),
-- The run that asked, however often its answer was scored anew since then.
asked AS (
    SELECT c.model_id, c.revision, c.query_id, arg_max(s.run_id, (s.scored_at, s.run_id)) AS run_id
    FROM current AS c
    JOIN score AS s ON s.model_id = c.model_id AND s.revision = c.revision
        AND s.query_id = c.query_id AND s.status = 'ok'
        AND s.response IS NOT DISTINCT FROM c.response
    JOIN evaluation_run AS e ON e.run_id = s.run_id AND e.kind <> 'rescore'
    GROUP BY c.model_id, c.revision, c.query_id
)
SELECT
    c.model_id, c.revision, c.query_id, c.task_version, c.score, c.metric, c.filter, c.response,
    c.doc_hash, c.prompt_hash, c.scored_at, coalesce(a.run_id, c.run_id) AS asked_by
FROM current AS c
LEFT JOIN asked AS a USING (model_id, revision, query_id)
ORDER BY c.model_id, c.revision, c.query_id
