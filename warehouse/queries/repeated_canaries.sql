-- Questions of the staged frame `incoming` that the run has answers to already.
SELECT i.query_id
FROM incoming AS i
SEMI JOIN (SELECT query_id FROM canary WHERE run_id = $run_id) AS c ON c.query_id = i.query_id
ORDER BY i.query_id
