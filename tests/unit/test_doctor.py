"""The views of a node for operators, from values: the checks of the doctor, and the tree of networks."""

from typing import Any

from cni_core.call import AttachmentKey, PodId
from cni_net.observed import Link
from cni_vlan import doctor, node
from cni_vlan.attachment import Attachment, Claim
from cni_vlan.doctor import Finding, Subject
from cni_vlan.netdir import NetworkFile
from cni_vlan.node import NodeState, PoolFault, PoolUse
from cni_vlan.parents import PARENT_ALIAS, Existing, shim_name
from cni_vlan.records import FOUND, OURS, AttachmentRecord, ParentRecord

MACVLAN, IPVLAN = Claim("macvlan", "bridge", ""), Claim("ipvlan", "l2", "bridge")
VLAN = ParentRecord("eth0.50", OURS, "eth0", MACVLAN, 50, "802.1q")
POD = AttachmentRecord(AttachmentKey("c1", "eth0"), "lan", "eth0.50", pod=PodId("default", "web-0"))
NO_RTNL: Any = None


def link(name: str, **fields: Any) -> Link:  # noqa: ANN401 - of several types
    return Link(ifindex=2, name=name, mac="", mtu=1500, up=True, carrier=True, loopback=False)._replace(
        **fields
    )


def state(*links: Link, parents: tuple[ParentRecord, ...] = (), pods: Any = (), **more: Any) -> NodeState:  # noqa: ANN401 - any
    names = {each.name: each for each in links}
    return NodeState(names, {parent.name: parent for parent in parents}, tuple(pods), **more)


def subject(node: NodeState, *wanted: Attachment) -> Subject:
    return Subject(NO_RTNL, node, [NetworkFile("10-lan.conflist", wanted)], "/nowhere/agent.sock")


def told(found: Any) -> list[tuple[str, str, str]]:  # noqa: ANN401 - an iterator of findings
    findings: list[Finding] = list(found)
    assert all(finding.advice for finding in findings if finding.verdict is not doctor.Verdict.OK)
    return [(finding.verdict.value, finding.subject, finding.text) for finding in findings]


def test_a_parent_with_pods_is_well() -> None:
    node = state(link("eth0.50"), parents=(VLAN,), pods=[POD])

    assert told(doctor.parents(subject(node))) == [("ok", "eth0.50", "carries 1 pod interface")]


def test_a_parent_that_is_missing_under_its_pods_fails() -> None:
    pods = [POD, POD._replace(key=AttachmentKey("c2", "eth0"))]

    found = told(doctor.parents(subject(state(parents=(VLAN,), pods=pods))))

    assert found == [("fail", "eth0.50", "is missing, with 2 pod interfaces on it")]


def test_a_parent_without_pods_is_left_over_if_it_is_ours() -> None:
    ours, found = state(link("eth0.50"), parents=(VLAN,)), VLAN._replace(link=FOUND)

    assert told(doctor.parents(subject(ours))) == [("warn", "eth0.50", "is left over: it carries no pod")]
    assert told(doctor.parents(subject(state(link("eth0.50"), parents=(found,))))) == []


def test_a_parent_below_another_is_not_left_over() -> None:
    upper = ParentRecord("eth0.50.7", OURS, "eth0.50", MACVLAN, 7, "802.1q")
    pod = POD._replace(parent="eth0.50.7")
    node = state(link("eth0.50"), link("eth0.50.7"), parents=(VLAN, upper), pods=[pod])

    assert told(doctor.parents(subject(node))) == [("ok", "eth0.50.7", "carries 1 pod interface")]


def test_a_marked_link_without_a_record_is_a_warning() -> None:
    node = state(link("eth0.50", alias=f"{PARENT_ALIAS} vlan 50 802.1q on eth0"))

    verdict, name, text = told(doctor.parents(subject(node)))[0]

    assert (verdict, name) == ("warn", "eth0.50")
    assert "has no record of its users" in text


def test_host_access_without_its_link_fails() -> None:
    pod = POD._replace(shim=shim_name("eth0.50"))
    gone = state(link("eth0.50"), parents=(VLAN,), pods=[pod])
    down = state(link("eth0.50"), link("host-eth0.50", up=False), parents=(VLAN,), pods=[pod])

    assert ("fail", "host-eth0.50", "is missing: the host cannot reach 1 pod interface") in told(
        doctor.parents(subject(gone))
    )
    assert ("fail", "host-eth0.50", "is down: the host cannot reach its pods") in told(
        doctor.parents(subject(down))
    )


def test_networks_that_cannot_share_a_parent_fail_before_and_with_pods() -> None:
    one = Attachment("lan", Existing("eth0"), MACVLAN)
    other = Attachment("dmz", Existing("eth0"), IPVLAN)
    record = ParentRecord("eth0", FOUND, claim=MACVLAN)
    running = state(link("eth0"), parents=(record,), pods=[POD._replace(parent="eth0")])

    by_files = told(doctor.sharing(subject(state(link("eth0")), one, other)))
    by_pods = told(doctor.sharing(subject(running, other)))

    reason = "macvlan and ipvlan cannot share a parent"
    assert by_files == [("fail", "eth0", f"lan is macvlan bridge, dmz ipvlan l2 flag bridge: {reason}")]
    assert by_pods == [
        ("fail", "eth0", f"pods use it as macvlan bridge, dmz asks for ipvlan l2 flag bridge: {reason}")
    ]
    assert told(doctor.sharing(subject(running, one))) == []


def test_full_pools_and_the_faults_of_shared_ones() -> None:
    full, room = PoolUse("lan", "10.0.0.0/30", 1, 0), PoolUse("dmz", "10.1.0.0/24", 253, 4)
    fault = PoolFault("lan", "the store does not answer", "see docs/cluster.md", fatal=False)

    found = told(doctor.pools(subject(state(pools=(full, room), faults=(fault,)))))

    assert found == [
        ("warn", "pool lan", "no address of 10.0.0.0/30 is free (1 leased)"),
        ("warn", "pool lan", "the store does not answer"),
    ]


def test_the_tree_shows_uplinks_parents_networks_and_pods() -> None:
    leases = {("lan", POD.key): ("10.0.50.2/24",)}
    dummy = ParentRecord("dm-lab", OURS, claim=MACVLAN, network="lab")
    nested = ParentRecord("eth0.50.7", OURS, "eth0.50", IPVLAN, 7, "802.1q")
    seen = state(link("eth0.50"), parents=(VLAN, dummy, nested), pods=[POD], leases=leases)
    shown = node.parents_in_use(seen)

    assert node.tree(shown, ["idle"]) == [
        "dm-lab (macvlan bridge, created, removed with its last pod)",
        "eth0",
        "└─ eth0.50 (macvlan bridge, created, removed with its last pod)",
        "   ├─ eth0.50.7 (ipvlan l2 flag bridge, created, removed with its last pod)",
        "   └─ network lan, 1 pod",
        "      └─ default/web-0 eth0 10.0.50.2/24",
        "idle: no pods on this node",
    ]
    assert node.tree([], []) == ["no networks"]
