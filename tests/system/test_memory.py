"""What many recordings at once cost in memory: they go from the disk to the socket, by plain HTTP and by HTTPS."""
import os
import struct
import subprocess

import pytest
from conftest import Stub, until

pytestmark = pytest.mark.release
JOBS, THREADS, PEAK_MAX_KIB = 1000, 32, 40 * 1024
SYSTEM_CAS = "/etc/ssl/certs/ca-certificates.crt"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A server's certificate, and the system's bundle with it: as large as any worker has to hold."""
    folder = tmp_path_factory.mktemp("certificate")
    cert, key, bundle = (str(folder / name) for name in ("cert.pem", "key.pem", "bundle.pem"))
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=stub", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key,
                    "-out", cert], check=True, capture_output=True)
    with open(bundle, "wb") as to:
        for name in (SYSTEM_CAS, cert):
            with open(name, "rb") as f:
                to.write(f.read())
    return cert, key, bundle


@pytest.fixture(params=["http", "https"])
def api(request, certificate):
    """What a worker needs to know of a stub that keeps no bodies."""
    cert, key, bundle = certificate
    flags = ["--tls-cert", cert, "--tls-key", key] if request.param == "https" else []
    stub = Stub("--no-record", *flags, cafile=cert if flags else None)
    yield stub, {"KHAYA_BASE_URL": stub.url, **({"api_ca_file": bundle} if request.param == "https" else {})}
    stub.stop()


def peak_kib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return int(f.read().split("VmHWM:")[1].split()[0])


def test_a_thousand_recordings_of_a_mebibyte(system, api, tmp_path):
    stub, settings = api
    data = os.urandom((1 << 20) - 44)
    (tmp_path / "speech.wav").write_bytes(struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, 1, 1, 16000, 32000, 2, 16, b"data", len(data)) + data)
    w = system.worker(threads=THREADS, audio_root=tmp_path, lease_ms=60000, **settings)
    system.push("transcribe", *[{"id": f"{i}", "audio_path": "speech.wav"} for i in range(JOBS)])
    until(lambda: system.stats("transcribe").get("succeeded") == JOBS, 120, "all are done")
    peak = peak_kib(w.process.pid)
    print(f"peak memory: {peak} KiB")
    assert peak < PEAK_MAX_KIB
    billed = {k.decode(): int(v) for k, v in system.redis.hgetall("adwuma:{transcribe}:billed").items()}
    assert billed == {"request": JOBS, "audio_second": 33 * JOBS} and stub.count() == JOBS
