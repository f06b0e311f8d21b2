import pytest

from ports import has_ipv6


@pytest.fixture(params=("tcp4", "tcp6", "unix"))
def family(request):
    if request.param == "tcp6" and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    return request.param
