-- Staged frame `incoming` -> query: rows that are not there yet.
INSERT INTO query BY NAME
SELECT *, $now AS added_at FROM incoming ANTI JOIN query USING (query_id);
