import pytest


@pytest.fixture(params=("tcp4", "tcp6", "unix"))
def family(request):
    import kquay

    if request.param == "tcp6" and not kquay.has_ipv6():
        pytest.skip("this machine has no IPv6")
    return request.param
