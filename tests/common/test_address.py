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


def test_an_address_names_a_server_a_cluster_or_sentinels():
    server = address.parse("rediss://u:p%40@h:7000/2?ssl_ca_certs=/ca.pem")
    assert (server.kind, server.nodes) == (address.Kind.SERVER, (("h", 7000),))
    assert server.at(*server.nodes[0]) == "rediss://u:p%40@h:7000/2?ssl_ca_certs=/ca.pem"
    cluster = address.parse("rediss+cluster://u:p%40@h1:7000,h2,[::1]:7002?ssl_ca_certs=/ca.pem")
    assert (cluster.kind, cluster.nodes) == (address.Kind.CLUSTER, (("h1", 7000), ("h2", 6379), ("::1", 7002)))
    assert cluster.at("::1", 7002) == "rediss://u:p%40@[::1]:7002?ssl_ca_certs=/ca.pem"
    watched = address.parse("redis+sentinel://u:p@h1,h2:1/my-master/3?socket_keepalive=1&sentinel_password=q%26")
    assert (watched.kind, watched.master) == (address.Kind.SENTINEL, "my-master")
    assert watched.nodes == (("h1", 26379), ("h2", 1))
    assert watched.at("m", 5) == "redis://u:p@m:5/3?socket_keepalive=1"
    assert watched.at_sentinel("h2", 1) == "redis://h2:1?socket_keepalive=1&password=q%26", "it has a login of its own"
    ours = address.parse("redis+sentinel://h/m?db=3&username=u&password=p&socket_keepalive=1")
    assert ours.at_sentinel("h", 1) == "redis://h:1?socket_keepalive=1", "database and login are the servers'"
    assert address.parse("redis+sentinel://h/m").path == "/0"
    assert address.parse("redis://").nodes == (("localhost", 6379),)
    assert address.parse("redis://u:p@:7000/1").nodes == (("localhost", 7000),)
    assert address.parse("redis://[fe80::1%25eth0]:7000/1").nodes == (("fe80::1%eth0", 7000),)
    assert address.parse("unix:///run/redis.sock?db=1").scheme == "unix"


@pytest.mark.parametrize(
    ("url", "right"),
    [
        ("redis-cluster://h:1", "begins with no scheme that we know. Expected redis://"),
        ("redis+server://h:1", "begins with no scheme that we know"),
        ("redis+sentinels://h:1/m", "begins with no scheme that we know"),
        ("h:6379", "begins with no scheme that we know"),
        (
            "redis://u:s3cret@h1:1,h2:2/0",
            r"several hosts are nodes of a cluster \(redis\+cluster://host:port,host:port\)",
        ),
        ("rediss://u:s3cret@h1,h2", r"or Sentinels \(rediss\+sentinel://host:port,host:port/master\)"),
        ("redis+cluster://", "a host is missing"),
        ("redis+cluster://h1:1,,h2:2", "a host is missing"),
        ("redis+cluster://u:s3cret@h1:seven", "its port is not a number from 1 to 65535"),
        ("redis+cluster://h1:70000", "its port is not a number from 1 to 65535"),
        ("redis+cluster://u:s3cret@h1:1/1", "a Redis Cluster has database 0 alone: leave the database out"),
        ("redis+cluster://h1:1?db=1", "a Redis Cluster has database 0 alone"),
        ("redis+cluster://u:x@h/s3cret@h1:1", "an @ stands behind the hosts"),
        ("redis://u:12/s3cret@h1:1/0", "an @ stands behind the hosts"),
        ("redis://u:12#s3cret@h1:1/0", "an @ stands behind the hosts"),
        ("redis+sentinel://u:s3cret@h1:1", r"the master's name is missing .* redis\+sentinel://host:26379/mymaster/0"),
        ("rediss+sentinel://h1:1/m/s3cret", "the database after the master's name is a number, as in /mymaster/0"),
        ("redis+sentinel://h/m?sentinel_user=s3cret", "own options are sentinel_username and sentinel_password"),
        ("redis://u:s3cret@[h/0", "its brackets or characters are none of an address"),
        ("redis://h:1/0?s3cret=1", "it has an option that redis-py does not know"),
        ("redis+cluster://h:1?s3cret=1", "it has an option that redis-py does not know"),
    ],
)
def test_what_is_wrong_with_an_address_is_said_with_what_would_be_right_and_without_its_password(url, right):
    with pytest.raises(BrokerError, match=right) as caught:
        Connection(url, "r", connect_s=0.5)
    assert "s3cret" not in str(caught.value)


def test_what_is_shown_of_an_address_has_every_host_and_nothing_secret():
    assert address.public("rediss+cluster://u:p@H1:7000,h2?x=y") == "rediss+cluster://h1:7000,h2"
    assert address.public("redis+sentinel://u:p@h1:1,h2:2/m/0") == "redis+sentinel://h1:1,h2:2/m/0"
    assert address.public("redis+cluster://u:p/q@h:1,x") == "the given --redis-url"
    assert address.public("redis://u:12/q@h:1/0") == "the given --redis-url"


def test_sentinels_that_do_not_answer_are_named_in_words():
    with pytest.raises(BrokerError) as caught:
        Connection("redis+sentinel://u:s3cret@127.0.0.1:1,127.0.0.1:2/m", "r", connect_s=0.5)
    assert "127.0.0.1:1 - network:ConnectionError, 127.0.0.1:2 - network:ConnectionError" in str(caught.value)
    assert "<redis" not in str(caught.value)


def test_one_connection_is_enough_where_the_address_says_so(redis_url):
    connection = Connection(f"{redis_url}?max_connections=1", "r", connect_s=0.5)
    assert connection.redis.ping()
    connection.close()
