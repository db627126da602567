-- The checkpoint that was active when the given one was made so; a rollback is no such act.
SELECT active
FROM checkpoint_decision
WHERE candidate = $checkpoint_id AND promoted AND kind <> 'rollback'
ORDER BY decided_at DESC
LIMIT 1
