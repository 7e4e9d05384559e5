"""Stage storage on this machine and on object stores: real fsspec classes over HTTP, each against a server of its own.

S3 is moto, and localbucket as a second judge of it; Azure is Azurite, Google Cloud Storage is gcp-storage-emulator. `make stores`
installs the last three and runs their tests, which are skipped elsewhere. gcp-storage-emulator speaks no gRPC, which
gcsfs 2026.10 tries first, and takes every upload, whatever its precondition: who is first cannot be tested there.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
import uuid
from http.server import ThreadingHTTPServer
from xml.etree import ElementTree as ET

import pytest
from upath import UPath

from airflow_batch_provider.storage import Directory

# Azurite's account, which is the same everywhere: https://github.com/Azure/Azurite#default-storage-account (2026-11).
AZURITE = {
    "account_name": "devstoreaccount1",
    "account_key": "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
}


@pytest.fixture(scope="session")
def s3_url():
    """A local S3 server with a bucket `batches`."""
    from s3_server import S3Server

    with S3Server() as server:
        yield server.url


@pytest.fixture(scope="session")
def localbucket_url(tmp_path_factory):
    """A second local S3 server with a bucket `batches`, by others, which keeps objects as files."""
    handler = _with_multi_delete(pytest.importorskip("localbucket", reason="localbucket is not installed: make stores"))
    handler.data_root = tmp_path_factory.mktemp("localbucket")
    (handler.data_root / "batches").mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def _with_multi_delete(localbucket):
    """Its requests, and one that localbucket 1.2 refuses: DeleteObjects, which s3fs sends even for one object."""

    class Handler(localbucket.S3Handler):
        disable_nagle_algorithm = True  # headers and body go out apart, and the second would wait for 40 ms

        def _post_request(self, bucket, key):
            if key or "delete" not in self.query:
                super()._post_request(bucket, key)
                return
            names = ET.fromstring(self._read_body()).iterfind("{*}Object/{*}Key")
            for path in [self._object_path(bucket, name.text) for name in names]:
                if path.is_file():  # S3 has no folders, and says nothing of an object that is not there
                    path.unlink()
            self._send_xml(ET.Element("DeleteResult", xmlns=localbucket.S3_NAMESPACE))

    return Handler


@pytest.fixture(scope="session")
def azure(tmp_path_factory):
    """Options of adlfs for a local server with a container `batches`."""
    adlfs, binary = pytest.importorskip("adlfs"), shutil.which("azurite-blob")
    if binary is None:
        pytest.skip("Azurite is not installed: make stores, where npm is")
    port = free_port()
    command = [binary, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence", "--silent"]
    process = subprocess.Popen(
        [*command, "--skipApiVersionCheck", "--disableTelemetry"], cwd=tmp_path_factory.mktemp("azurite")
    )
    try:
        wait_for(port)
        address = f"http://127.0.0.1:{port}/{AZURITE['account_name']}"
        parts = {
            "DefaultEndpointsProtocol": "http",
            "AccountName": AZURITE["account_name"],
            "AccountKey": AZURITE["account_key"],
            "BlobEndpoint": address,
        }
        options = {"connection_string": ";".join(f"{name}={value}" for name, value in parts.items())}
        adlfs.AzureBlobFileSystem(**options).mkdir("batches")
        yield options
    finally:
        process.terminate()
        process.wait(timeout=10)


@pytest.fixture
def gcs(monkeypatch):
    """A directory of gcsfs on a local server, over HTTP alone."""
    # Read as gcsfs is imported (gcsfs 2026.10, `__init__.py`); with it, a bucket's kind is asked over gRPC for a minute.
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    pytest.importorskip("gcsfs")
    port = free_port()
    server = pytest.importorskip("gcp_storage_emulator.server").create_server(
        "127.0.0.1", port, in_memory=True, default_bucket="batches"
    )
    server.start()
    yield Directory(UPath(f"gs://batches/{uuid.uuid4().hex}", token="anon", endpoint_url=f"http://127.0.0.1:{port}"))
    server.stop()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def wait_for(port):
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"nothing listens at {port}")


@pytest.fixture(params=["file", "s3", "localbucket", "azure"])
def root(request, tmp_path):
    """A directory nobody else uses."""
    name = uuid.uuid4().hex
    match request.param:
        case "file":
            return UPath(tmp_path / "root")
        case "s3" | "localbucket":
            url = request.getfixturevalue(f"{request.param}_url")
            return UPath(f"s3://batches/{name}", key="k", secret="s", endpoint_url=url)
        case _:
            return UPath(f"az://batches/{name}", **request.getfixturevalue("azure"))


@pytest.fixture
def directory(root):
    return Directory(root)
