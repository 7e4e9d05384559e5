"""Stage storage on this machine and on an object store."""

from __future__ import annotations

import uuid

import pytest
from upath import UPath

from airflow_batch_provider.storage import Directory


@pytest.fixture(scope="session")
def s3_url():
    """A local S3 server with a bucket `batches`."""
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    s3fs.S3FileSystem(key="k", secret="s", endpoint_url=url).mkdir("batches")
    yield url
    server.stop()


@pytest.fixture(params=["file", "s3"])
def root(request, tmp_path):
    """A directory nobody else uses."""
    if request.param == "file":
        return UPath(tmp_path / "root")
    url = request.getfixturevalue("s3_url")
    return UPath(f"s3://batches/{uuid.uuid4().hex}", key="k", secret="s", endpoint_url=url)


@pytest.fixture
def directory(root):
    return Directory(root)
