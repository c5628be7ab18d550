"""etcd alone: its members, certificates, users and quota, and the words for what is wrong with them."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cni_ipam.cluster import EngineConf
from cni_ipam.engine import EngineAway, EngineRefused, Entry
from cni_ipam.etcd import Etcd
from tests.cluster.certificates import Certificates
from tests.cluster.etcds import Etcds
from tests.cluster.proxy import slowed
from tests.cluster.test_engine import block, made, name
from tests.lab.waiting import wait_until

POOL = "vlan50"
RIGHT = "correct horse"


def refusal(engine: Etcd) -> str:
    """Return the words of an engine that refuses, quickly."""
    start = time.monotonic()
    with pytest.raises(EngineRefused) as found:
        engine.list("block")
    assert time.monotonic() - start < 3
    return found.value.msg


def absence(engine: Etcd) -> str:
    """Return the words of an engine that is away, in time."""
    start = time.monotonic()
    with pytest.raises(EngineAway) as found:
        engine.list("block")
    assert time.monotonic() - start < 3
    return found.value.msg


# Keys.


def test_operators_find_the_keys(etcd: Etcds) -> None:
    engine = Etcd(etcd.conf(prefix="/ipam"))
    made(engine, POOL)
    engine.create("node", "node1.example", {"node": "node1.example"})
    engine.create("pool", POOL, {"pool": POOL, "blockSize": 16})

    assert etcd.keys("/ipam/") == [
        f"/ipam/v1/block/{POOL}/{POOL}.0a000000",
        "/ipam/v1/node/node1.example",
        f"/ipam/v1/pool/{POOL}/{POOL}",
    ]


def test_a_value_that_is_not_ours_has_no_fields(etcd: Etcds) -> None:
    for number, value in enumerate(("", "[1]", "no JSON", "{")):
        etcd.put(f"/odd/v1/block/{POOL}/{name(POOL, number)}", value)

    found = Etcd(etcd.conf(prefix="/odd")).list("block", POOL)

    assert [(entry.name, entry.fields) for entry in found.entries] == [
        (name(POOL, number), {}) for number in range(4)
    ]


def test_a_prefix_may_have_any_words(etcd: Etcds) -> None:
    asked = Etcd(etcd.conf(prefix="/infra/node/block"))
    made = [asked.create("node", "a/node/b", {}), asked.create("block", "lan.0a000000", {"pool": "lan"})]
    found = [asked.list("node").entries[0], asked.list("block").entries[0]]

    assert found == made
    assert all(asked.delete(entry) for entry in found)


def test_nodes_are_listed_by_what_has_changed(etcd: Etcds) -> None:
    """Made, changed, deleted, made again, and deleted while another is made."""
    conf = etcd.conf(prefix="/news")
    asked, other = Etcd(conf), Etcd(conf)
    first = [other.create("node", f"n{n}", {"at": n}) for n in range(4)]
    with slowed(etcd.endpoints[0]) as proxy:
        watched = Etcd(conf._replace(endpoints=(proxy.url,)))
        assert list(watched.list("node").entries) == first
        watched.list("node")
        assert proxy.sent[1] < proxy.sent[0] / 2

    def both() -> list[Entry]:
        found = list(asked.list("node").entries)
        assert found == list(Etcd(conf).list("node").entries)
        return found

    one, two, three, _four = both()
    changed = other.replace(two, {"at": 9})
    assert both()[1] == changed
    assert other.delete(one)
    assert len(both()) == 3
    again = other.create("node", "n0", {"at": 7})
    assert both()[0] == again
    assert other.delete(three)
    other.create("node", "n9", {})
    assert [entry.name for entry in both()] == ["n0", "n1", "n3", "n9"]


def test_there_is_no_authority_beside_it(etcd: Etcds) -> None:
    assert Etcd(etcd.conf()).nodes() is None


# Members.


def test_an_etcd_that_ends_is_away_and_one_that_starts_again_serves() -> None:
    with Etcds() as etcd:
        engine = Etcd(etcd.conf())
        entry = made(engine, POOL)
        etcd.kill(0)
        (endpoint,) = etcd.endpoints

        assert absence(engine) == f"reach etcd on {endpoint}: connection refused"

        etcd.start(0)
        assert engine.read("block", entry.name) == entry


def test_an_etcd_that_hangs_is_away() -> None:
    with Etcds() as etcd:
        engine = Etcd(etcd.conf())
        made(engine, POOL)
        etcd.suspend(0)

        assert "no answer within 2.5 s" in absence(engine)

        etcd.resume(0)
        assert len(engine.list("block", POOL).entries) == 1


def test_another_etcd_has_another_id() -> None:
    with Etcds() as one, Etcds() as other:
        ids = {Etcd(etcd.conf()).list("block").cluster for etcd in (one, other)}

        assert len(ids) == 2


@pytest.fixture
def three() -> Iterator[Etcds]:
    with Etcds(3) as running:
        yield running


def test_one_member_of_three_ends(three: Etcds) -> None:
    engine = Etcd(three.conf())
    made(engine, POOL, 0)  # the first endpoint is preferred from here on

    three.kill(0)

    made(engine, POOL, 1)
    assert len(engine.list("block", POOL).entries) == 2


def test_the_leader_of_three_ends(three: Etcds) -> None:
    engine = Etcd(three.conf())
    made(engine, POOL, 0)

    three.kill(three.leader())

    made(engine, POOL, 1)
    assert len(engine.list("block", POOL).entries) == 2


def test_one_member_of_three_hangs(three: Etcds) -> None:
    engine = Etcd(three.conf())
    made(engine, POOL, 0)
    leader = three.leader()
    three.suspend(0 if leader else 1)
    engine = Etcd(three.conf())

    made(engine, POOL, 1)
    start = time.monotonic()
    for number in range(2, 12):
        made(engine, POOL, number)
    assert time.monotonic() - start < 2  # the member that hangs is asked once, if at all


def test_two_members_of_three_end(three: Etcds) -> None:
    engine = Etcd(three.conf())
    made(engine, POOL, 0)

    three.kill(0)
    three.kill(1)

    words = absence(engine)
    assert f"{three.endpoints[0]}: connection refused" in words
    assert f"{three.endpoints[2]}: " in words
    with pytest.raises(EngineAway):
        engine.create("block", name(POOL, 1), block(POOL, 1))

    three.start(1)
    assert engine.read("block", name(POOL, 0)) is not None


# TLS.


@pytest.fixture(scope="module")
def mutual(certificates: Certificates) -> Iterator[Etcds]:
    """An etcd that wants a certificate of each client."""
    with Etcds(certificates=certificates, mutual=True) as running:
        yield running


def test_certificates_of_both_sides(mutual: Etcds) -> None:
    engine = Etcd(mutual.conf())

    made(engine, POOL)

    assert len(engine.list("block", POOL).entries) == 1


def test_an_authority_that_did_not_sign(mutual: Etcds, stranger: Certificates) -> None:
    words = refusal(Etcd(mutual.conf(ca_file=str(stranger.ca))))

    assert f"reach etcd on {mutual.endpoints[0]}: its certificate is not trusted: " in words
    assert "ipam.cluster.caFile" in words


@pytest.mark.parametrize("text", ["", "no certificate\n"])
def test_a_ca_file_without_a_certificate(mutual: Etcds, tmp_path: Path, text: str) -> None:
    path = tmp_path / "ca.crt"
    path.write_text(text)

    assert refusal(Etcd(mutual.conf(ca_file=str(path)))) == (
        f"read ipam.cluster.caFile {path}: no certificate in it"
    )


def test_a_ca_file_that_is_missing(mutual: Etcds, tmp_path: Path) -> None:
    path = tmp_path / "ca.crt"

    assert refusal(Etcd(mutual.conf(ca_file=str(path)))) == (
        f"read ipam.cluster.caFile {path}: no such file or directory"
    )


def test_no_client_certificate(mutual: Etcds) -> None:
    wanted = "wants a client certificate that it trusts: see ipam.cluster.certFile"
    closed = "want another ipam.cluster.certFile, or one"  # if etcd has no time for an alert

    with pytest.raises((EngineAway, EngineRefused), match=re.escape(wanted) + "|" + re.escape(closed)):
        Etcd(mutual.conf(cert_file="", key_file="")).list("block")


def test_a_client_certificate_that_etcd_does_not_trust(mutual: Etcds, stranger: Certificates) -> None:
    files = {"cert_file": str(stranger.crt("client")), "key_file": str(stranger.key("client"))}

    with pytest.raises(
        (EngineAway, EngineRefused), match=r"ipam\.cluster\.certFile"
    ):  # if etcd has time for an alert
        Etcd(mutual.conf(**files)).list("block")


def test_a_key_of_another_certificate(mutual: Etcds, stranger: Certificates) -> None:
    words = refusal(Etcd(mutual.conf(key_file=str(stranger.key("client")))))

    assert words.endswith("not a certificate and its key")


def test_a_client_certificate_that_is_missing(mutual: Etcds, tmp_path: Path) -> None:
    words = refusal(Etcd(mutual.conf(cert_file=str(tmp_path / "no.crt"))))

    assert words.endswith("no such file or directory")


def test_a_key_that_wants_a_password(mutual: Etcds, tmp_path: Path, certificates: Certificates) -> None:
    path = tmp_path / "client.key"
    certificates.encrypt("client", path)

    assert refusal(Etcd(mutual.conf(key_file=str(path)))).endswith("not a certificate and its key")


def test_the_certificate_of_another_host(certificates: Certificates) -> None:
    certificates.issue("elsewhere", "DNS:etcd.example")
    with Etcds(certificates=certificates.serving("elsewhere")) as etcd:
        words = refusal(Etcd(etcd.conf()))

    assert "its certificate is another host's: " in words
    assert "127.0.0.1" in words


def test_a_name_instead_of_an_address(mutual: Etcds) -> None:
    port = urlsplit(mutual.endpoints[0]).port
    engine = Etcd(mutual.conf(endpoints=(f"https://localhost:{port}",), prefix="/named"))

    made(engine, POOL)

    assert len(engine.list("block", POOL).entries) == 1


def test_certificates_that_are_replaced_are_read_again(
    tmp_path: Path, certificates: Certificates, mutual: Etcds, stranger: Certificates
) -> None:
    ca = tmp_path / "ca.crt"
    ca.write_bytes(stranger.ca.read_bytes())
    engine = Etcd(mutual.conf(ca_file=str(ca)))
    refusal(engine)

    fresh = tmp_path / "ca.new"
    fresh.write_bytes(certificates.ca.read_bytes())
    fresh.rename(ca)

    engine.list("block")


def test_tls_where_there_is_none(etcd: Etcds) -> None:
    port = urlsplit(etcd.endpoints[0]).port

    words = absence(Etcd(etcd.conf(endpoints=(f"https://127.0.0.1:{port}",))))

    assert "does it speak TLS" in words


def test_no_tls_where_there_is(mutual: Etcds) -> None:
    port = urlsplit(mutual.endpoints[0]).port
    engine = Etcd(mutual.conf(endpoints=(f"http://127.0.0.1:{port}",)))

    assert "an https:// endpoint" in absence(engine)


# Users.


class Users:
    """An etcd that demands a user, and the files of that user."""

    def __init__(self, etcd: Etcds, directory: Path) -> None:
        self.etcd, self._file = etcd, directory / "password"

    def conf(self, password: str = RIGHT, **more: object) -> EngineConf:
        """Return the configuration of a client with a password in its file."""
        self._file.write_text(password + "\n")
        return self.etcd.conf(**{"user": "ipam", "password_file": str(self._file), **more})


@pytest.fixture(params=["simple", "jwt"])
def users(request: pytest.FixtureRequest, tmp_path: Path, certificates: Certificates) -> Iterator[Users]:
    """An etcd with users, for both kinds of tokens."""
    tokens = request.param
    if tokens == "jwt":
        private = certificates.key("client")
        tokens = f"jwt,sign-method=RS256,priv-key={private},pub-key={certificates.public('client')},ttl=1s"
    with Etcds(arguments=[f"--auth-token={tokens}"]) as etcd:
        etcd.demand_users("ipam", RIGHT, "/cni-vlan/")
        yield Users(etcd, tmp_path)


def test_a_user_with_the_right_password(users: Users) -> None:
    engine = Etcd(users.conf())

    made(engine, POOL)

    assert len(engine.list("block", POOL).entries) == 1


def test_a_user_with_a_wrong_password(users: Users) -> None:
    words = refusal(Etcd(users.conf("wrong")))

    assert words == (
        f"log in as ipam on etcd {users.etcd.endpoints[0]}: wrong user or password:"
        " see ipam.cluster.user and passwordFile"
    )


def test_a_password_file_that_is_missing(users: Users, tmp_path: Path) -> None:
    words = refusal(Etcd(users.conf(password_file=str(tmp_path / "none"))))

    assert words == f"read ipam.cluster.passwordFile {tmp_path}/none: no such file"


def test_no_user_where_one_is_wanted(users: Users) -> None:
    words = refusal(Etcd(users.etcd.conf()))

    assert words.endswith("it wants a user: set ipam.cluster.user and passwordFile")


def test_a_user_who_may_not(users: Users) -> None:
    words = refusal(Etcd(users.conf(prefix="/others")))

    assert words.endswith("user ipam has no permission for keys under /others/v1/")


def test_a_token_that_has_ended_is_replaced(users: Users) -> None:
    engine = Etcd(users.conf())
    made(engine, POOL, 0)

    users.etcd.become_root()
    users.etcd.ask("auth/user/changepw", {"name": "ipam", "password": "fresh"})  # ends simple tokens
    users.conf("fresh")
    wait_until(users.etcd.has_forgotten_root)  # those that end by time have ended by then

    made(engine, POOL, 1)
    assert len(engine.list("block", POOL).entries) == 2


def test_a_token_of_before_a_change_of_users_is_replaced(users: Users) -> None:
    engine = Etcd(users.conf())
    made(engine, POOL, 0)

    users.etcd.become_root()
    users.etcd.ask("auth/user/add", {"name": "another", "password": "x"})

    made(engine, POOL, 1)


def test_users_are_introduced_while_nodes_run(tmp_path: Path) -> None:
    with Etcds() as etcd:
        engine = Etcd(Users(etcd, tmp_path).conf())
        made(engine, POOL, 0)  # nobody is asked for a password yet

        etcd.demand_users("ipam", RIGHT, "/cni-vlan/")

        made(engine, POOL, 1)


# The quota.


def test_a_quota_that_is_used_up() -> None:
    with Etcds(arguments=["--quota-backend-bytes=262144"]) as etcd:
        engine = Etcd(etcd.conf())
        entry = made(engine, POOL, 0)
        while etcd.accepts("/ballast", "x" * 60000):
            pass

        with pytest.raises(EngineRefused) as found:
            engine.create("block", name(POOL, 1), block(POOL, 1))

        assert "NOSPACE" in found.value.msg
        assert "etcdctl alarm disarm" in found.value.msg
        assert engine.list("block", POOL).entries == (entry,)
        assert engine.delete(entry)  # what helps is still allowed
