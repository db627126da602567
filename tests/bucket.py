"""A real S3 service on this machine: moto, which keeps its objects in memory."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

KEYS = {
    "AWS_ACCESS_KEY_ID": "tests",
    "AWS_SECRET_ACCESS_KEY": "tests-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    # A machine's own profiles and roles are nothing to tests.
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextmanager
def service(port: int = 0) -> Iterator[str]:
    """The service on a port, a free one by default, while the block runs; gives its address.

    What its buckets hold is this process's, and there again when it is started anew.
    """
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line for each request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    try:
        host, found = server.get_host_and_port()
        yield f"http://{host}:{found}"
    finally:
        server.stop()


@contextmanager
def bucket(name: str) -> Iterator[dict[str, str]]:
    """A bucket, while the block runs; gives the environment of those who use it."""
    import boto3

    with service() as url:
        boto3.client(
            "s3",
            endpoint_url=url,
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
            region_name=KEYS["AWS_DEFAULT_REGION"],
        ).create_bucket(Bucket=name)
        yield {**KEYS, "AWS_ENDPOINT_URL": url}
