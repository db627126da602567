-- What a snapshot is made of, as one word in which there is no time: batches of scores, but for
-- canaries, and the places of models on one map. The same word: nothing came in between.
SELECT concat_ws(
    '-',
    $checkpoint_id::VARCHAR,
    (
        SELECT concat_ws('-', count(*), bit_xor(md5_number(p.part_sha256)))
        FROM score_part AS p
        JOIN evaluation_run AS r ON r.run_id = p.run_id
        WHERE r.kind <> 'canary'
    ),
    (
        SELECT concat_ws('-', count(*), bit_xor(md5_number(
            concat(model_id, chr(31), revision, chr(31), scores_digest, chr(31), vector::VARCHAR)
        )))
        FROM model_embedding
        WHERE checkpoint_id = $checkpoint_id
    )
) AS held
