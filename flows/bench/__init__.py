"""How fast the pipeline is, each row beside a peer or a limit measured in the same run."""
