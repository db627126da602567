-- Digest of the staged frame `incoming` of scores, whatever the order of its rows. The time of
-- scoring is left out: the same scores read again a day later are the same content. XOR is enough,
-- because no two rows of one batch have the same key.
SELECT
    count(*) AS n_rows,
    coalesce(bit_xor(row_hash), 0)::VARCHAR AS hash
FROM (
    SELECT md5_number(concat(
        model_id, chr(31), revision, chr(31), query_id, chr(31), status, chr(31),
        coalesce(score::VARCHAR, chr(30)), chr(31), metric, chr(31),
        coalesce(filter, chr(30)), chr(31), coalesce(metrics, chr(30)), chr(31),
        coalesce(response, chr(30)), chr(31), coalesce(latency_ms::VARCHAR, chr(30)), chr(31),
        coalesce(tokens_in::VARCHAR, chr(30)), chr(31),
        coalesce(tokens_out::VARCHAR, chr(30)), chr(31),
        coalesce(cost_usd::VARCHAR, chr(30)), chr(31), coalesce(doc_hash, chr(30)), chr(31),
        coalesce(prompt_hash, chr(30)), chr(31), coalesce(target_hash, chr(30))
    )) AS row_hash
    FROM incoming
)
