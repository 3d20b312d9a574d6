"""An address is found where it was said, and its password is shown nowhere."""

import pytest
from leeway_rl.common import address
from leeway_rl.common.errors import BrokerError
from leeway_rl.common.queue.connection import Connection


def test_what_is_said_wins_over_the_environment_and_that_over_the_local_server(tmp_path, monkeypatch):
    monkeypatch.delenv(address.VARIABLE, raising=False)
    assert address.resolve(None) == address.LOCAL
    (tmp_path / "url").write_text("rediss://u:p@h:1/0\n")
    monkeypatch.setenv(address.VARIABLE, f"@{tmp_path / 'url'}")
    assert address.resolve(None) == "rediss://u:p@h:1/0"
    assert address.resolve("redis://other/0") == "redis://other/0"
    address.forget()
    assert address.resolve(None) == address.LOCAL


def test_a_file_without_an_address_is_named(tmp_path):
    with pytest.raises(BrokerError, match="nowhere': No such file"):
        address.resolve(f"@{tmp_path}/nowhere")
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(BrokerError, match="the file is empty"):
        address.resolve(f"@{tmp_path}/empty")


@pytest.mark.parametrize(
    "url",
    ["redis://u:s3cret/s3cret@127.0.0.1:1/0", "redis://u:s3cret@127.0.0.1:port/0", "http://u:s3cret@127.0.0.1:1/0"],
)
def test_an_address_that_cannot_be_read_does_not_show_its_password(url):
    with pytest.raises(BrokerError, match=r"not an address; .* In a password write / as %2F") as caught:
        Connection(url, "r", connect_s=0.5)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_kept_secret_is_for_this_user_alone(tmp_path):
    path = tmp_path / "url"
    path.write_text("old, and for everybody")
    path.chmod(0o644)
    address.keep("redis://u:p@h/0", path)
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("redis://u:p@h/0\n", 0o600)
