"""Many runtimes' worth of calls at once."""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.lab.world import Host, Pod, network

pytestmark = pytest.mark.kernel

VLANS = (10, 20, 30, 40, 50)
WORKERS, PAIRS = 20, 200
COLD = 2  # of the workers: without the agent, beside those that have it


def test_two_hundred_pairs_by_twenty_processes_on_five_vlans(host: Host) -> None:
    host.uplink()
    confs = [network(f"net{vlan}", f"eth0.{vlan}", f"10.{vlan}.0.0/24", announce=0) for vlan in VLANS]
    pods = host.pods(*(f"p{number}" for number in range(WORKERS)))
    cold = pods[:COLD]

    def work(pod: Pod) -> list[str]:
        """Add and delete in random order, on all networks, as one runtime would for one pod."""
        way = {"CNI_VLAN_SOCKET": "/nowhere"} if pod in cold else {}
        dice = random.Random(pod.name)  # noqa: S311 - a test's dice, the same in each run
        wrong: list[str] = []
        attached: dict[str, int] = {}
        done = 0
        while done < PAIRS // WORKERS or attached:
            free = [n for n in range(len(confs)) if n not in attached.values()]
            if done < PAIRS // WORKERS and free and (not attached or dice.random() < 0.5):
                number, ifname = dice.choice(free), f"net{done}"
                reply = pod.add(confs[number], ifname, **way)
                attached[ifname] = number
                done += 1
            else:
                ifname = dice.choice(list(attached))
                reply = pod.delete(confs[attached.pop(ifname)], ifname, **way)
            if reply.status:
                wrong.append(f"{pod.name} {ifname}: {reply.stdout}{reply.stderr}")
        return wrong

    with ThreadPoolExecutor(WORKERS) as pool:
        wrong = [text for found in pool.map(work, pods) for text in found]

    assert wrong == []
    assert set(host.links()) == {"lo", "eth0"}
    assert all([link["ifname"] for link in pod.ip("link")] == ["lo"] for pod in pods)
    assert host.state() == []
    assert host.held_locks() == []


def test_twenty_first_adds_on_one_absent_parent(host: Host) -> None:
    host.uplink()
    conf = network("lan", "eth0.10", "10.0.0.0/24", announce=0)
    pods = host.pods(*(f"p{number}" for number in range(20)))

    with ThreadPoolExecutor(len(pods)) as pool:
        results = list(pool.map(lambda pod: pod.attach(conf), pods))
    given = {result["ips"][0]["address"] for result in results}

    assert len(given) == len(pods)
    with ThreadPoolExecutor(len(pods)) as pool:
        list(pool.map(lambda pod: pod.detach(conf), pods))
    assert set(host.links()) == {"lo", "eth0"}
    assert host.state() == []
