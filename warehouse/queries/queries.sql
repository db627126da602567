-- Queries by split, tasks and ids; a NULL filter keeps everything.
SELECT *
FROM query
WHERE ($split IS NULL OR split = $split)
    AND ($tasks::VARCHAR[] IS NULL OR task IN (SELECT unnest($tasks::VARCHAR[])))
    AND ($ids::VARCHAR[] IS NULL OR query_id IN (SELECT unnest($ids::VARCHAR[])))
ORDER BY query_id
