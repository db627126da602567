"""Who should answer: the predictor without torch, routing tables, routing quality, the router."""
