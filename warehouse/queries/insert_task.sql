-- Staged frame `incoming` -> task: rows that are not there yet.
INSERT INTO task BY NAME
SELECT *, $now AS added_at FROM incoming ANTI JOIN task USING (task, task_version);
