-- The snapshot that readers should see: the one that was last published or gone back to.
SELECT subject AS snapshot_id
FROM audit_log
WHERE action IN ('publish', 'snapshot rollback', 'snapshot repair')
ORDER BY rowid DESC  -- in the order of writing, whatever a clock did
LIMIT 1
