"""For every conftest: a test that skips itself has failed."""
import pytest


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport():
    """What was skipped was not tested, and must not look as if it had been."""
    report = (yield).get_result()
    if report.skipped:
        report.outcome, report.longrepr = "failed", f"skipped: {report.longrepr}"
