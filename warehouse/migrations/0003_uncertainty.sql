-- How sure the map is of a place and of a prediction.

ALTER TABLE model_embedding ADD COLUMN uncertainty FLOAT;
COMMENT ON COLUMN model_embedding.uncertainty IS 'Standard deviation of the predicted P(correct) that is due to the place, root mean square over the bank''s questions; NULL where the method knows none.';
ALTER TABLE model_embedding ADD COLUMN covariance FLOAT[];
COMMENT ON COLUMN model_embedding.covariance IS 'Upper triangle, row by row, of the covariance of the leading numbers of the vector (the others are 0); NULL where the method knows none.';
ALTER TABLE prediction ADD COLUMN deviation FLOAT;
COMMENT ON COLUMN prediction.deviation IS 'Standard deviation of p_correct that is due to the model''s place; NULL where the method knows none.';
