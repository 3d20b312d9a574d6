"""An address is found where it was said, and its password is shown nowhere."""

import os
import ssl
from contextlib import ExitStack

import pytest
from leeway_rl.common import address
from leeway_rl.common.errors import BrokerError
from leeway_rl.common.queue.client import pool_of
from leeway_rl.common.queue.connection import Connection, RedisError, refused_or_lost

from tests.integration.tls import make_certificate


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


def test_a_secret_that_is_kept_anew_is_whole_at_any_time(tmp_path, monkeypatch):
    path, seen, replace = tmp_path / "url", [], os.replace
    address.keep("redis://old/0", path)

    def looked(*names):
        seen.append(path.read_text())
        replace(*names)

    monkeypatch.setattr("os.replace", looked)
    address.keep("redis://new/0", path)
    assert (seen, path.read_text()) == (["redis://old/0\n"], "redis://new/0\n")
    assert [each.name for each in tmp_path.iterdir()] == ["url"]
    with pytest.raises(FileNotFoundError, match=r"nowhere/url'$"):
        address.keep("redis://new/0", tmp_path / "nowhere" / "url")


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
    assert ours.at("m", 5) == "redis://m:5/3?username=u&password=p&socket_keepalive=1"
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
        ("redis://u:s3?cret@h1:1/0", r"a password seems to have a /, a \? or a #"),
        ("redis://h:1/0#s3cret", "a # stands in it"),
        ("redis://h:1/s3cret", "the database after the host is a number, as in redis://host:6379/0"),
        ("redis://u:s3cret@[h/0", "its brackets or characters are none of an address"),
    ],
)
def test_what_is_wrong_with_an_address_is_said_with_what_would_be_right_and_without_its_password(url, right):
    with pytest.raises(BrokerError, match=right) as caught:
        Connection(url, "r", connect_s=0.5)
    assert "s3cret" not in str(caught.value)


EVERYWHERE = "Understood are db, username, password, socket_keepalive, max_connections"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://h/0?retry=3", f"has the option 'retry', which Leeway does not understand. {EVERYWHERE}"),
        ("redis://h/0?retry", "has the option 'retry', which Leeway does not understand"),
        ("redis://h/0?socket_timeout=abc", "has the option 'socket_timeout', which Leeway does not understand"),
        ("redis://h/0?socket_timeout=1", "has the option 'socket_timeout', which Leeway does not understand"),
        ("redis+cluster://h?decode_responses=true", f"has the option 'decode_responses', .* understand. {EVERYWHERE}"),
        ("unix:///run/redis.sock?unknown=1", f"has the option 'unknown', .* understand. {EVERYWHERE}"),
        ("rediss://h/0?unknown=1", f"{EVERYWHERE}, ssl_ca_certs, ssl_ca_path, .*, ssl_cert_reqs, ssl_check_hostname"),
        ("redis+sentinel://h/m?unknown=1", f"{EVERYWHERE}, sentinel_username, sentinel_password$"),
        ("redis+sentinel://h/m?sentinel_user=u", "has the option 'sentinel_user', which Leeway does not understand"),
        ("redis://h/0?password=s3&cret=1", f"has an option, which Leeway does not understand. {EVERYWHERE}"),
        ("redis://h?db=x", "has the option db, which is to be a whole number from 0 to 9999, not 'x'"),
        ("redis://h?db=", "has the option db, which is to be a whole number from 0 to 9999$"),
        ("redis://h/1?db=2", "has the option db and a database before it: say it once"),
        ("redis+sentinel://h/m/1?db=2", "has the option db and a database before it: say it once"),
        ("redis://h?db=1&db=2", "has the option db twice: say it once"),
        ("redis://h?max_connections=7", "max_connections, which is to be a whole number from 8 to 1000000, not '7'"),
        ("redis://h?socket_keepalive=maybe", "which is to be true, false, yes, no, 1 or 0, not 'maybe'"),
        ("redis://h?ssl_ca_certs=/ca.pem", "has the option ssl_ca_certs, which is for TLS alone: write rediss in"),
        ("redis://h?sentinel_password=s3cret", "has the option sentinel_password, which is for Sentinels alone"),
        ("rediss://h?ssl_cert_reqs=maybe", "ssl_cert_reqs, which is to be required, optional or none, not 'maybe'"),
        ("rediss://h?ssl_ca_certs=/nowhere.pem", "ssl_ca_certs=/nowhere.pem, which cannot be used here: No such file"),
        (
            f"rediss://h?ssl_ca_certs={__file__}",
            "test_address.py, which cannot be used here: it holds nothing that TLS",
        ),
        ("rediss://h?ssl_keyfile=/k.pem", "has the option ssl_keyfile without ssl_certfile"),
    ],
)
def test_an_option_is_understood_or_refused_by_its_name_with_those_that_are_understood(url, said):
    """Wherever an address is taken from: before anything is started, and by the client itself."""
    for take in (address.resolve, lambda url: Connection(url, "r", connect_s=0.5)):
        with pytest.raises(BrokerError, match=f"--redis-url: the address .*{said}") as caught:
            take(url)
        assert "cret" not in str(caught.value)


def test_every_option_that_is_understood_reaches_the_client(tmp_path):
    certificate, key = make_certificate(tmp_path)
    of_files = f"ssl_ca_certs={certificate}&ssl_certfile={certificate}&ssl_keyfile={key}"
    url = f"rediss://h?db=3&username=u&password=p&socket_keepalive=no&max_connections=9&{of_files}"
    parsed = address.known(f"{url}&ssl_cert_reqs=none&ssl_check_hostname=false")
    pool = pool_of(parsed, f"{url}&ssl_cert_reqs=none&ssl_check_hostname=false", None, socket_timeout=5.0)
    link = pool.connection_class(**pool.connection_kwargs)
    assert (link.db, link.username, link.password, link.socket_keepalive) == (3, "u", "p", False)
    assert (link.ca_certs, link.certfile, link.keyfile) == (str(certificate), str(certificate), str(key))
    assert (link.cert_reqs, link.check_hostname, pool.max_connections) == (ssl.CERT_NONE, False, 9)


def test_what_is_shown_of_an_address_has_every_host_and_nothing_secret():
    assert address.public("rediss+cluster://u:p@H1:7000,h2?db=0") == "rediss+cluster://h1:7000,h2"
    assert address.public("redis+sentinel://u:p@h1:1,h2:2/m/0") == "redis+sentinel://h1:1,h2:2/m/0"
    assert address.public("redis+cluster://u:p/q@h:1,x") == "the given --redis-url"
    assert address.public("redis://u:12/q@h:1/0") == "the given --redis-url"


def test_sentinels_that_do_not_answer_are_named_in_words():
    with pytest.raises(BrokerError) as caught:
        Connection("redis+sentinel://u:s3cret@127.0.0.1:1,127.0.0.1:2/m", "r", connect_s=0.5)
    assert "127.0.0.1:1: Error 111" in str(caught.value)
    assert "127.0.0.1:2: Error 111" in str(caught.value)
    assert "<redis" not in str(caught.value)


def test_too_few_connections_for_a_process_are_told_apart_from_a_lost_server(redis_url):
    connection = Connection(f"{redis_url}?max_connections=8", "r", connect_s=20.0, retry_s=0.0)
    with ExitStack() as held:
        for _ in range(8):
            held.enter_context(connection.redis.client())
        with pytest.raises(RedisError) as caught:
            connection.redis.ping()
    assert "max_connections in the address" in refused_or_lost(caught.value)
    connection.close()
