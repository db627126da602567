-- What asking costs, since when; and how a task is asked.

CREATE TABLE price (
    model_id VARCHAR NOT NULL,
    valid_from DATE,
    in_usd_per_mtok DOUBLE NOT NULL,
    out_usd_per_mtok DOUBLE NOT NULL
);
COMMENT ON TABLE price IS 'One row per price of a model, as the registry says now; score.cost_usd was reckoned by the one that was valid then.';
COMMENT ON COLUMN price.model_id IS 'The model (model.model_id).';
COMMENT ON COLUMN price.valid_from IS 'First day of this price (UTC); NULL for ever since. Unique per model.';
COMMENT ON COLUMN price.in_usd_per_mtok IS 'Price of one million input tokens, in US dollars.';
COMMENT ON COLUMN price.out_usd_per_mtok IS 'Price of one million output tokens, in US dollars.';

ALTER TABLE task ADD COLUMN num_fewshot INTEGER;
COMMENT ON COLUMN task.num_fewshot IS 'Examples before a question, as the task says; what a run did is in evaluation_run.settings.';
