"""What the published numbers mean and where they end; both go into every manifest."""

DEFINITIONS = {
    "p_correct": "mean over the bucket's reference queries of the predicted probability that the "
    "model answers correctly",
    "observed_accuracy": "mean score of the model on the bucket's train and val queries that it "
    "has answered; missing where it has answered none",
    "lower_bound": "one-sided 95 % lower bound of the model's true accuracy in the bucket: "
    "p_correct less what doubt about its place and misfit of the map may take from it, calibrated "
    "on val answers, which nothing was learned from; missing where there are too few of them",
    "observed_low": "lower end of the 95 % Wilson interval of observed_accuracy",
    "bucket": "queries that a row is about: all, a task (benchmark), or a topic learned from the "
    "encodings of train and val queries; a topic's words are those that tell it from the others",
    "lower_bound_check": "share of pairs of bucket and model whose accuracy on test queries is not "
    "further below p_correct than the bound and chance allow; it should be 0.95 or more",
    "best_for_the_money": "cheapest model of the bucket whose p_correct is within 0.02 of the "
    "best, by cost_usd if it is known of all of these, else by prices per token; missing without "
    "prices",
    "n_observed": "answered train and val queries behind observed_accuracy",
    "n_reference": "queries behind p_correct",
    "rank": "1 is the highest p_correct of the bucket; ties are broken by model id",
    "cost_usd": "mean cost of an answered query, in US dollars; missing where prices or tokens "
    "are unknown",
    "latency_ms": "mean wall time per query of the batch it was asked in, in milliseconds",
    "hit1": "share of test queries whose chosen model answered correctly; for each query only "
    "models that have answered it can be chosen",
    "best single": "the model with the highest accuracy on training queries, for every query",
    "best single in hindsight": "the model with the highest accuracy on the test queries "
    "themselves; a bar that nobody could have used in advance",
    "random": "expected share for a model drawn at random for each query",
    "oracle": "share of test queries that some model answered correctly",
    "euclidean_distance": "distance between two embeddings; near models answer alike (factors: the "
    "root mean square difference of their predicted scores over the bank's queries)",
    "uncertainty": "standard deviation of a predicted score that is due to the model's place, root "
    "mean square over the bank's queries; missing where the method knows none",
    "deviation": "standard deviation of p_correct that is due to the model's place",
    "observed_agreement": "share of commonly answered queries on which both are right or both "
    "are wrong",
    "stand_ins": "models to ask when a model is down: its nearest by Euclidean distance",
    "calibration_error": "expected calibration error of p on test queries, 15 equal-width bins",
}

LIMITS = [
    "Predictions come from what models answered on the stored tasks; a query of a kind that no "
    "task resembles is routed by guesswork.",
    "An embedding of a model with few scores is less sure than one with many: uncertainty says how "
    "sure. It counts what is unknown of the model, not of a query's difficulty.",
    "p_correct is a model's estimate, not a measurement; read it beside lower_bound and "
    "n_observed.",
    "Scores are those of the stored prompts and settings; another prompt can change them.",
]
