"""When and in what order: flows, deployments and the command line. No computation here."""
