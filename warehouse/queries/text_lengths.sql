-- Mean length of a task's questions with their choices, in characters.
SELECT
    task,
    avg(len(text) * greatest(1, coalesce(len(choices), 1)) + coalesce(len(array_to_string(choices, '')), 0))
        AS characters
FROM query
GROUP BY task
ORDER BY task
