import pytest

from vpnforensics.errors import TunnelError
from vpnforensics.reftunnel.tun import Tun


@pytest.mark.parametrize(
    "name", ["wg%d", "", "sixteen_letters_", "a b", "a/b", "a:b", ".", "..", "tab\t", "\udcff" * 16]
)
def test_what_the_kernel_would_not_take_as_it_stands_is_no_name(name):
    with pytest.raises(TunnelError, match="no interface name"):
        Tun(name)
