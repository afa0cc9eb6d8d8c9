"""Beyond one Redis and one host: with the programs and servers of shared, and hosts.py beside this file."""
import pytest
from programs import BUILD, ROOT, SLOW, RedisServer, Stub, System, start, until  # noqa: F401 (tests take them from here)
from skipped import pytest_runtest_makereport  # noqa: F401


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
def system(tmp_path, stub, server):
    s = System(tmp_path, stub, server)
    yield s
    s.finish()
