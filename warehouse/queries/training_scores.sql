-- The current scores with status ok; a NULL filter keeps everything.
SELECT l.model_id, l.query_id, l.score
FROM latest_score AS l
JOIN query AS q ON q.query_id = l.query_id
WHERE l.status = 'ok'
    AND ($splits::VARCHAR[] IS NULL OR q.split IN (SELECT unnest($splits::VARCHAR[])))
    AND ($tasks::VARCHAR[] IS NULL OR q.task IN (SELECT unnest($tasks::VARCHAR[])))
    AND ($models::VARCHAR[] IS NULL OR l.model_id IN (SELECT unnest($models::VARCHAR[])))
ORDER BY l.model_id, l.query_id
