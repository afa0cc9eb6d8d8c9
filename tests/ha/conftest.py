"""Beyond one Redis and one host: with the programs and servers of shared, and hosts.py beside this file."""
from fixtures import quick_stub, server, stub, system  # noqa: F401
from programs import BUILD, ROOT, SLOW, RedisServer, Stub, System, start, until  # noqa: F401 (tests take them from here)
from skipped import pytest_runtest_makereport  # noqa: F401
