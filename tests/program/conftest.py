import os
import subprocess

import pytest

from ports import has_ipv6


@pytest.fixture(params=("tcp4", "tcp6", "unix"))
def family(request):
    if request.param == "tcp6" and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    return request.param


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    """A folder of certificates; CERTS names the script that makes them."""
    path = tmp_path_factory.mktemp("certs")
    subprocess.run([os.environ["CERTS"], path], check=True)
    return path
