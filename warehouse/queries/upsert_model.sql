-- Staged frame `incoming` -> model. What is known already gives way to what is newly known only.
MERGE INTO model AS old
USING incoming AS new
ON old.model_id = new.model_id
WHEN MATCHED THEN UPDATE SET
    org = coalesce(new.org, old.org),
    family = coalesce(new.family, old.family),
    params_b = coalesce(new.params_b, old.params_b),
    released = coalesce(new.released, old.released),
    license = coalesce(new.license, old.license),
    price_in_usd_per_mtok = coalesce(new.price_in_usd_per_mtok, old.price_in_usd_per_mtok),
    price_out_usd_per_mtok = coalesce(new.price_out_usd_per_mtok, old.price_out_usd_per_mtok),
    source = CASE WHEN old.source = 'registry' THEN old.source ELSE new.source END,
    metadata = coalesce(CAST(new.metadata AS JSON), old.metadata)
WHEN NOT MATCHED THEN INSERT (
    model_id, org, family, params_b, released, license, price_in_usd_per_mtok,
    price_out_usd_per_mtok, source, metadata, added_at
) VALUES (
    new.model_id, new.org, new.family, new.params_b, new.released, new.license,
    new.price_in_usd_per_mtok, new.price_out_usd_per_mtok, new.source,
    CAST(new.metadata AS JSON), $now
);
