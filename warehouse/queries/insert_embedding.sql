-- Staged frame `incoming` -> model_embedding of one checkpoint.
INSERT INTO model_embedding BY NAME
SELECT *, $checkpoint_id AS checkpoint_id, $now AS embedded_at FROM incoming;
