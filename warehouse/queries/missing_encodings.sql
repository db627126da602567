-- Queries without a vector of encoder $encoder; NULL $ids looks at all of them.
SELECT q.query_id, q.text
FROM query AS q
WHERE NOT EXISTS (
        SELECT 1 FROM query_encoding AS e WHERE e.query_id = q.query_id AND e.encoder = $encoder
    )
    AND ($ids::VARCHAR[] IS NULL OR q.query_id IN (SELECT unnest($ids::VARCHAR[])))
ORDER BY q.query_id
