"""When and in what order: flows, deployments and the command line. No computation here."""

import logging

# Prefect hands on what its extra loggers say (PREFECT_LOGGING_EXTRA_LOGGERS), but gives them no
# level, so that a worker would show warnings only.
for _name in ("locus", "warehouse"):
    if logging.getLogger(_name).level == logging.NOTSET:
        logging.getLogger(_name).setLevel(logging.INFO)
