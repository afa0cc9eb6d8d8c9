"""What most tests are given: a stand-in for the APIs, a Redis, and both with workers."""
import pytest
from programs import RedisServer, Stub, System


@pytest.fixture
def stub():
    s = Stub()
    yield s
    s.stop()


@pytest.fixture
def server(tmp_path):
    s = RedisServer(tmp_path)
    yield s
    s.stop()


@pytest.fixture
def quick_stub():
    s = Stub("--no-record")
    yield s
    s.stop()


@pytest.fixture
def system(tmp_path, stub, server):
    s = System(tmp_path, stub, server)
    yield s
    s.finish()
