"""What the tests need, and what happens when it is not there.

A test that cannot run is skipped with the reason. With CI=true in the environment that is a failure: a machine that
is to prove something must not report success for what it did not try.

  SLUICE_BIN   the program under test, default build/dev/sluice
  ENVOY_BIN    Envoy, default the one in build/venv
"""

import os
import shutil
import subprocess

import pytest

import pod as pods

CI = os.environ.get("CI", "").lower() == "true"


def pytest_configure(config):
    pods.clean_up_on_exit()


# --------------------------------------------------------------------------------------------- fixtures


@pytest.fixture(scope="session")
def namespaces():
    """Says once whether network namespaces can be made here."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to make network namespaces")
    for program in ("ip", "nft"):
        if not shutil.which(program):
            pytest.skip(f"needs the program {program}")
    name = f"sluice-{os.getpid()}-0-try"
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"cannot make a network namespace: {tried.stderr.strip()}")
    subprocess.run(["ip", "netns", "delete", name], check=True)


@pytest.fixture(scope="session")
def sluice(namespaces):
    """The path of the program under test."""
    binary = pods.sluice_binary()
    if not os.access(binary, os.X_OK):
        pytest.skip(f"there is no sluice at {binary}; build it or set SLUICE_BIN")
    return binary


@pytest.fixture
def pod(sluice):
    """A pod with nothing running in it."""
    with pods.Pod() as pod:
        yield pod


@pytest.fixture
def mesh(pod):
    """A pod with an application and an answering proxy in it, and servers outside."""
    pods.serve_mesh(pod)
    return pod


@pytest.fixture(scope="module")
def mesh_of_this_file(sluice):
    with pods.Pod() as pod:
        pods.serve_mesh(pod)
        yield pod


@pytest.fixture
def shared_mesh(mesh_of_this_file):
    """The same, made once per file; for tests that change nothing but through sluice."""
    yield mesh_of_this_file
    mesh_of_this_file.sluice("cleanup")


@pytest.fixture(params=pods.FAMILIES, ids=str)
def family(request):
    """Runs the test once for IPv4 and once for IPv6."""
    return request.param


# ------------------------------------------------------------------------------- skipping, and the summary


def _must_not_skip(report):
    """Turns a skipped report into a failed one that says why."""
    if not (CI and report.skipped) or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    report.outcome = "failed"
    report.longrepr = f"CI=true, so this had to run, but it did not. {reason}"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    _must_not_skip(outcome.get_result())


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report(collector):
    outcome = yield
    _must_not_skip(outcome.get_result())


def pytest_terminal_summary(terminalreporter):
    counts = {name: len(terminalreporter.stats.get(name, [])) for name in ("passed", "failed", "error", "skipped")}
    said = ", ".join(f"{number} {name}" for name, number in counts.items())
    terminalreporter.section("kernel tests")
    terminalreporter.line(f"sluice: {pods.sluice_binary()}")
    terminalreporter.line(f"envoy:  {pods.envoy_binary() or 'none'}")
    terminalreporter.line(f"result: {said}" + (" (CI=true: skipped counts as failed)" if CI else ""))
