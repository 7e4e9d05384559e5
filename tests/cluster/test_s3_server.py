"""The S3 of the cluster's tests fails, and lets one of many be first, as S3 does."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection

import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from s3_server import BUCKET, KEY, S3Server


@pytest.fixture
def server():
    with S3Server() as running:
        yield running


def client(server: S3Server):
    keys = {"aws_access_key_id": KEY["key"], "aws_secret_access_key": KEY["secret"]}
    once = Config(retries={"total_max_attempts": 1})
    session = botocore.session.get_session()
    return session.create_client("s3", endpoint_url=server.url, region_name="us-east-1", config=once, **keys)


def test_one_of_many_conditional_writes_of_an_object_is_first(server):
    """moto alone lets two be first when they come at once."""

    key = uuid.uuid4().hex

    def write(number: int) -> int:
        try:
            done = client(server).put_object(Bucket=BUCKET, Key=key, Body=str(number).encode(), IfNoneMatch="*")
        except ClientError as error:
            return error.response["ResponseMetadata"]["HTTPStatusCode"]
        return done["ResponseMetadata"]["HTTPStatusCode"]

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(write, range(8))) == [200, *7 * [412]]


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_an_unavailable_server_says_so_by_the_rules_of_http(server, method):
    """The answer to a HEAD has no body, so the connection can be used again."""
    server.unavailable = True
    connection = HTTPConnection(server.url.removeprefix("http://"), timeout=10)
    for _ in range(2):
        connection.request(method, f"/{BUCKET}/claim")
        reply = connection.getresponse()
        assert reply.status == 503
        assert (b"SlowDown" in reply.read()) == (method == "GET")
    connection.close()
