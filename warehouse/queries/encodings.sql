-- Vectors of encoder $encoder; NULL $ids gives all of them.
SELECT query_id, vector
FROM query_encoding
WHERE encoder = $encoder
    AND ($ids::VARCHAR[] IS NULL OR query_id IN (SELECT unnest($ids::VARCHAR[])))
ORDER BY query_id
