-- training_scores
-- All scores with status ok, each with the number of its model and of its query: their place, from
-- 0, among all ids in order. Numbers are a tenth of the work of ids. A NULL filter keeps everything.
WITH numbered_model AS (
    SELECT model_id, row_number() OVER (ORDER BY model_id) - 1 AS model FROM model
),
numbered_query AS (
    SELECT query_id, split, task, row_number() OVER (ORDER BY query_id) - 1 AS query FROM query
)
SELECT m.model, q.query, s.score
FROM score AS s
JOIN numbered_model AS m ON m.model_id = s.model_id
JOIN numbered_query AS q ON q.query_id = s.query_id
WHERE s.status = 'ok'
    AND ($splits::VARCHAR[] IS NULL OR q.split IN (SELECT unnest($splits::VARCHAR[])))
    AND ($tasks::VARCHAR[] IS NULL OR q.task IN (SELECT unnest($tasks::VARCHAR[])))
    AND ($models::VARCHAR[] IS NULL OR m.model_id IN (SELECT unnest($models::VARCHAR[])))
