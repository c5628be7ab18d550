"""What every lease store does, on disk and in memory: the same calls, the same leases."""

import ipaddress
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cni_core.call import AttachmentKey, PodId
from cni_core.errors import AddressUnavailable, DuplicateAttachment, IoFailure, PoolExhausted
from cni_ipam import leasing
from cni_ipam.config import AllocationRequest
from cni_ipam.disk_store import DiskStore
from cni_ipam.lease import Lease, Tenant
from cni_ipam.lease_store import LeaseStore
from cni_ipam.place import Place
from cni_ipam.ranges import RangeSet
from cni_ipam.subnets import range_sets
from tests.store.memory import MemoryStore

Make = Callable[[str], LeaseStore]
NETWORK = "lan"


@pytest.fixture(params=["disk", "memory"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """A way to make a store of a new pool; another pool has 10.9.0.0/16."""
    if request.param == "memory":
        return lambda pool: MemoryStore(Place(pool), [("elsewhere", "10.9.0.0/16")])
    other = DiskStore(Place("elsewhere", str(tmp_path)))
    lease(other, "x", wanted("10.9.0.0/16"))
    return lambda pool: DiskStore(Place(pool, str(tmp_path)))


def sets(*subnets: str) -> tuple[RangeSet, ...]:
    problems: list[str] = []
    found = range_sets([], [{"subnet": subnet} for subnet in subnets], problems)
    assert problems == []
    return tuple(found)


def wanted(*subnets: str, requested: tuple[str, ...] = ()) -> AllocationRequest:
    return AllocationRequest(Place("lan"), sets(*subnets), requested)


SMALL = wanted("10.0.0.0/29")
DUAL = wanted("10.0.0.0/29", "2001:db8::/64")


def lease(store: LeaseStore, pod: str, request: AllocationRequest = SMALL) -> list[str]:
    tenant = Tenant(AttachmentKey(pod, "eth0"), NETWORK, PodId("default", pod, "u"))
    return [c.cidr for c in store.transaction(lambda pool: leasing.lease(pool, tenant, request)).choices]


def release(store: LeaseStore, pod: str, network: str = NETWORK) -> None:
    store.transaction(lambda pool: leasing.release(pool, AttachmentKey(pod, "eth0"), {network}))


def test_addresses_go_upwards_and_round(make: Make) -> None:
    store = make("p")
    given_out = [lease(store, f"a{n}")[0] for n in range(5)]
    release(store, "a1")
    release(store, "a0")

    assert given_out == [f"10.0.0.{n}/29" for n in range(2, 7)]
    assert lease(store, "b") == ["10.0.0.2/29"]
    assert lease(store, "c") == ["10.0.0.3/29"]


def test_a_lease_is_what_was_leased(make: Make) -> None:
    store = make("p")
    assert not store.exists()
    addresses = lease(store, "a", DUAL)
    held = store.lease_of(AttachmentKey("a", "eth0"))

    assert addresses == ["10.0.0.2/29", "2001:db8::2/64"]
    assert held is not None
    assert (held.addresses, held.network, held.pod) == (tuple(addresses), NETWORK, PodId("default", "a", "u"))
    assert all(store.holds(held, address) for address in addresses)
    assert not store.holds(held, "10.0.0.3/29")
    assert store.exists()


def test_one_attachment_has_one_lease(make: Make) -> None:
    store = make("p")
    lease(store, "a")

    with pytest.raises(DuplicateAttachment):
        lease(store, "a")
    release(store, "a")
    release(store, "a")
    assert store.lease_of(AttachmentKey("a", "eth0")) is None


def test_a_del_of_another_network_of_the_pool_releases_nothing(make: Make) -> None:
    store = make("p")
    addresses = lease(store, "a")
    release(store, "a", "another")

    held = store.lease_of(AttachmentKey("a", "eth0"))
    assert held is not None
    assert held.addresses == tuple(addresses)


def test_all_families_or_none(make: Make) -> None:
    store = make("p")
    for number in range(5):
        lease(store, f"a{number}")

    with pytest.raises(PoolExhausted):
        lease(store, "b", wanted("2001:db8::/64", "10.0.0.0/29"))
    assert store.lease_of(AttachmentKey("b", "eth0")) is None
    assert lease(store, "c", wanted("2001:db8::/64")) == ["2001:db8::2/64"]


def test_a_requested_address(make: Make) -> None:
    store = make("p")

    assert lease(store, "a", wanted("10.0.0.0/24", requested=("10.0.0.77",))) == ["10.0.0.77/24"]
    assert lease(store, "b", wanted("10.0.0.0/24")) == ["10.0.0.2/24"]  # the cursor stays where it was
    for address in ("10.0.0.77", "10.0.0.1", "10.0.0.255", "10.7.7.7"):
        with pytest.raises(AddressUnavailable):
            lease(store, "c", wanted("10.0.0.0/24", requested=(address,)))


def test_two_leases_cannot_hold_one_address(make: Make) -> None:
    store = make("p")
    lease(store, "a")
    second = Lease(AttachmentKey("b", "eth0"), NETWORK, ("10.0.0.2/29",))

    with pytest.raises(IoFailure):
        store.transaction(lambda pool: pool.allocate(second))
    assert store.lease_of(second.key) is None


def test_full_blocks_open_again(make: Make) -> None:
    store = make("p")
    request = wanted("10.0.0.0/23")
    for number in range(509):
        lease(store, f"a{number}", request)
    with pytest.raises(PoolExhausted):
        lease(store, "b", request)
    release(store, "a7")

    assert lease(store, "b", request) == ["10.0.0.9/23"]


def test_what_no_valid_attachment_holds_is_collected(make: Make) -> None:
    store = make("p")
    for pod in ("a", "b", "c"):
        lease(store, pod)

    valid = {AttachmentKey("b", "eth0")}
    store.transaction(lambda pool: leasing.collect(pool, {"another"}, valid))
    assert store.lease_of(AttachmentKey("a", "eth0")) is not None
    store.transaction(lambda pool: leasing.collect(pool, {NETWORK}, valid))
    assert [pod for pod in "abc" if store.lease_of(AttachmentKey(pod, "eth0"))] == ["b"]


def test_default_subnets(make: Make) -> None:
    store = make("p")
    bare = AllocationRequest(Place("p"), (), ipv6=True)

    first, second = (list(map(ipaddress.ip_interface, lease(store, pod, bare))) for pod in ("a", "b"))

    assert [address.network for address in first] == [address.network for address in second]
    assert [address.version for address in first] == [4, 6]


def test_a_subnet_of_another_pool_is_told_once(make: Make) -> None:
    store = make("p")
    request = wanted("10.9.8.0/24")

    def grant(pod: str) -> tuple[str, ...]:
        tenant = Tenant(AttachmentKey(pod, "eth0"), NETWORK)
        return store.transaction(lambda pool: leasing.lease(pool, tenant, request)).warnings

    (warning,) = grant("a")
    assert "10.9.8.0/24 of pool p overlaps 10.9.0.0/16 of pool elsewhere" in warning
    assert grant("b") == ()


def test_whether_there_is_room(make: Make) -> None:
    store = make("p")
    assert store.transaction(lambda pool: leasing.room(pool, NETWORK, SMALL)) == ((), ())
    for number in range(5):
        lease(store, f"a{number}")

    full, (warning,) = store.transaction(lambda pool: leasing.room(pool, NETWORK, SMALL))
    assert len(full) == 1
    assert warning.startswith("pool p: all 5 are leased: no IP addresses available in range set")
    assert not store.can_grow(SMALL.range_sets)


def test_who_has_an_address_is_told(make: Make) -> None:
    store = make("p")
    (address,) = lease(store, "a")
    same = wanted("10.0.0.0/29", requested=(address.partition("/")[0],))

    with pytest.raises(AddressUnavailable) as refused:
        lease(store, "b", same)

    assert refused.value.details == "pool lan: pod default/a, container a eth0 has it"


def test_a_pool_without_a_lease_overlaps_nothing(tmp_path: Path) -> None:
    other, store = (DiskStore(Place(pool, str(tmp_path))) for pool in ("elsewhere", "p"))
    lease(other, "x", wanted("10.9.0.0/16"))
    release(other, "x")

    assert store.transaction(lambda pool: pool.overlaps(sets("10.9.8.0/24"))) == []


def test_many_threads(make: Make) -> None:
    store = make("p")
    request = wanted("10.0.0.0/24")

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda number: lease(store, f"a{number}", request)[0], range(100)))

    assert len(set(found)) == 100


def test_a_lease_whose_cursor_cannot_be_written_is_none(tmp_path: Path) -> None:
    """Such as on a disk that is full by then."""
    store = DiskStore(Place("p", str(tmp_path)))
    lease(store, "a")
    shutil.rmtree(tmp_path / "p" / "cursors")
    (tmp_path / "p" / "cursors").symlink_to("nowhere")  # read as absent, and cannot be written

    with pytest.raises(IoFailure):
        lease(store, "b")
    assert store.lease_of(AttachmentKey("b", "eth0")) is None


ACTIONS = st.lists(st.tuples(st.booleans(), st.integers(0, 7)), max_size=40)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ACTIONS)
def test_both_stores_answer_alike(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[bool, int]]
) -> None:
    disk = DiskStore(Place("p", str(tmp_path_factory.mktemp("disk"))))
    stores: list[LeaseStore] = [MemoryStore(Place("p")), disk]
    for adds, pod in actions:
        answers = [answer(store, f"a{pod}", adds=adds) for store in stores]
        assert answers[0] == answers[1]


def answer(store: LeaseStore, pod: str, *, adds: bool) -> list[str]:
    if not adds:
        release(store, pod)
        return []
    try:
        return lease(store, pod)
    except (PoolExhausted, DuplicateAttachment) as error:
        return [type(error).__name__]
