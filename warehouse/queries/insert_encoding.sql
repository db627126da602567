-- Staged frame `incoming` -> query_encoding: rows that are not there yet.
INSERT INTO query_encoding BY NAME
SELECT *, $now AS encoded_at FROM incoming ANTI JOIN query_encoding USING (query_id, encoder);
