-- Encoders that would have vectors of several lengths with the staged frame `incoming`.
SELECT encoder, list(DISTINCT dim ORDER BY dim) AS dims
FROM (
    SELECT encoder, dim FROM incoming
    UNION ALL
    SELECT encoder, dim FROM query_encoding WHERE encoder IN (SELECT encoder FROM incoming)
)
GROUP BY encoder
HAVING count(DISTINCT dim) > 1
ORDER BY encoder
