"""Who uses which parent, on disk. The only module that knows the layout below the state directory.

    parents/<parent>/state             JSON: how the link came to be and how it is used
    parents/<parent>/users/<key>       JSON, one per attachment; the key is `<container id>:<interface>`
    parents/<parent>/vlans/<name>      empty, one per VLAN parent of ours that is stacked on this one
    parents/<parent>/macs/<mac>        the key of the attachment that asked for this MAC address
    networks/<network>/<key>           symbolic link to the attachment's file
    locks/<parent>                     held for every change below parents/<parent>

What an earlier boot wrote is void, and read as absent: its links and sandboxes are gone with it.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from cni_core import statefile
from cni_core.boot import boot_id
from cni_core.errors import IoFailure
from cni_core.lock import locked
from cni_vlan.attachment import Claim

STATE_DIR = "/var/lib/cni/cni-vlan"
_ATTEMPTS = 5
CREATING, OURS, FOUND = "creating", "ours", "found"


class ParentState(NamedTuple):
    """How a parent's link came to be (CREATING until it is marked as ours), its uplink and its use."""

    link: str
    uplink: str = ""
    claim: Claim | None = None


class User(NamedTuple):
    """One attachment of a parent, as recorded."""

    network: str
    parent: str
    mac: str = ""
    pod: str = ""


def _parent_state(document: Mapping[str, Any]) -> ParentState | None:
    """Return the state in a document, None if it was damaged."""
    link, uplink, claim = (document.get(field) for field in ParentState._fields)
    if not isinstance(link, str) or not isinstance(uplink, str):
        return None
    if (
        isinstance(claim, list)
        and len(claim) == len(Claim._fields)
        and all(isinstance(c, str) for c in claim)
    ):
        return ParentState(link, uplink, Claim(*claim))
    return ParentState(link, uplink)


def _user(document: Mapping[str, Any]) -> User | None:
    """Return the record in a document, None if it was damaged."""
    texts = [value for field in User._fields if isinstance(value := document.get(field), str)]
    return User(*texts) if len(texts) == len(User._fields) else None


class Ledger:
    """The ledger below a directory, as seen from this boot."""

    def __init__(self, root: str = STATE_DIR) -> None:
        self._root = root
        self._boot = boot_id()

    def _path(self, *parts: str) -> str:
        return os.path.join(self._root, *parts)

    @contextlib.contextmanager
    def locked(self, parent: str) -> Iterator[None]:
        """Hold the lock of a parent."""
        statefile.make_directory(self._path("locks"))
        with locked(self._path("locks", parent)):
            yield

    def state(self, parent: str) -> ParentState | None:
        """Return a parent's state, None if this boot has none."""
        document = statefile.read_json(self._path("parents", parent, "state"))
        if document is None or document.get("boot") != self._boot:
            return None
        return _parent_state(document)

    def write_state(self, parent: str, state: ParentState) -> None:
        """Record a parent's state; what an earlier boot left of this parent is removed first."""
        directory = self._path("parents", parent)
        if not statefile.make_directory(directory) and self.state(parent) is None:
            self._forget(parent)
            statefile.make_directory(directory)
        document = {"version": 1, "boot": self._boot, **state._asdict()}
        statefile.write_file(os.path.join(directory, "state"), json.dumps(document) + "\n")

    def _forget(self, parent: str) -> None:
        """Remove all that is recorded of a parent."""
        directory = self._path("parents", parent)
        for part in ("users", "vlans", "macs"):
            for name in statefile.list_directory(os.path.join(directory, part)):
                statefile.remove_file(os.path.join(directory, part, name))
            statefile.remove_directory(os.path.join(directory, part))
        statefile.remove_file(os.path.join(directory, ".new"))
        statefile.remove_file(os.path.join(directory, "state"))
        statefile.remove_directory(directory)

    def announce(self, key: str, network: str, parent: str) -> None:
        """Make an attachment's entry in its network's index: from here on a DEL finds what there is of it."""
        name = statefile.file_name(key)
        index = self._path("networks", network)
        for attempt in range(_ATTEMPTS):
            statefile.make_directory(index)
            try:
                self._link(os.path.join(index, name), f"../../parents/{parent}/users/{name}")
            except IoFailure:  # removed in between, as empty, with the network's last attachment
                if os.path.isdir(index) or attempt + 1 == _ATTEMPTS:
                    raise
            else:
                return

    def enter(self, key: str, user: User) -> None:
        """Record an attachment under the parent's lock; the parent's state exists, and so does its entry."""
        name = statefile.file_name(key)
        users = self._path("parents", user.parent, "users")
        statefile.make_directory(users)
        document = {"version": 1, "boot": self._boot, "key": key, **user._asdict()}
        statefile.write_file(os.path.join(users, name), json.dumps(document) + "\n")
        if user.mac:
            macs = self._path("parents", user.parent, "macs")
            statefile.make_directory(macs)
            statefile.write_file(os.path.join(macs, user.mac), key + "\n")

    def _link(self, path: str, target: str) -> None:
        try:
            try:
                os.symlink(target, path)
            except FileExistsError:
                os.unlink(path)
                os.symlink(target, path)
        except OSError as error:
            raise IoFailure(f"write {path}: {error.strerror}") from error

    def leave(self, key: str, user: User) -> None:
        """Remove an attachment's record under the parent's lock; its index entry stays, see forget_key."""
        directory = self._path("parents", user.parent)
        if user.mac and self.mac_owner(user.parent, user.mac) == key:
            statefile.remove_file(os.path.join(directory, "macs", user.mac))
        statefile.remove_file(os.path.join(directory, "users", statefile.file_name(key)))

    def forget_key(self, network: str, key: str) -> None:
        """Remove the entry of an attachment in its network's index.

        The last step of a release: while the entry is there, a release that was killed half-way is done
        again.
        """
        statefile.remove_file(self._path("networks", network, statefile.file_name(key)))
        statefile.remove_directory(self._path("networks", network))

    def find_parent(self, network: str, key: str) -> str | None:
        """Return the parent that an attachment's index entry names, None if there is no entry."""
        try:
            target = os.readlink(self._path("networks", network, statefile.file_name(key)))
        except OSError:
            return None
        return target.split("/")[3]

    def user(self, parent: str, key: str) -> User | None:
        """Return an attachment's record, None if this boot has none."""
        path = self._path("parents", parent, "users", statefile.file_name(key))
        document = statefile.read_json(path)
        if document is None or document.get("boot") != self._boot or document.get("key") != key:
            return None
        return _user(document)

    def users(self, parent: str) -> Iterator[tuple[str, User]]:
        """Yield key and record of every attachment of a parent."""
        directory = self._path("parents", parent, "users")
        for name in statefile.list_directory(directory):
            document = statefile.read_json(os.path.join(directory, name)) or {}
            user = _user(document) if document.get("boot") == self._boot else None
            if user is not None:
                yield str(document.get("key", name)), user

    def parents(self) -> Iterator[tuple[str, int]]:
        """Yield every parent with the number of its attachments."""
        for parent in statefile.list_directory(self._path("parents")):
            yield parent, sum(1 for _user in self.users(parent))

    def keys(self, network: str) -> Iterator[str]:
        """Yield the key of every attachment of a network, void ones too."""
        for name in statefile.list_directory(self._path("networks", network)):
            document = statefile.read_json(self._path("networks", network, name)) or {}
            yield str(document.get("key", name))

    def has_users(self, parent: str) -> bool:
        """Tell whether a parent carries any attachment, at a cost that does not grow with them."""
        return self._occupied(parent, "users")

    def has_vlans(self, parent: str) -> bool:
        """Tell whether a VLAN parent of ours is stacked on this one."""
        return self._occupied(parent, "vlans")

    def _occupied(self, parent: str, part: str) -> bool:
        try:
            with os.scandir(self._path("parents", parent, part)) as entries:
                return any(entry.name != ".new" for entry in entries)
        except FileNotFoundError:
            return False

    def mac_owner(self, parent: str, mac: str) -> str:
        """Return the key of the attachment that asked for a MAC address on a parent, "" if none."""
        text = statefile.read_file(self._path("parents", parent, "macs", mac))
        return (text or "").strip()

    def enter_vlan(self, uplink: str, vlan: str) -> None:
        """Record under the uplink's lock that a VLAN parent of ours is stacked on it."""
        directory = self._path("parents", uplink, "vlans")
        statefile.make_directory(directory)
        statefile.write_file(os.path.join(directory, vlan), "")

    def leave_vlan(self, uplink: str, vlan: str) -> None:
        """Remove that record."""
        statefile.remove_file(self._path("parents", uplink, "vlans", vlan))

    def check_writable(self) -> None:
        """Raise IoFailure if the ledger cannot be written."""
        statefile.make_directory(self._root)
        probe = self._path(".probe")
        statefile.write_file(probe, "")
        statefile.remove_file(probe)

    def close_parent(self, parent: str) -> None:
        """Remove a parent's records and, last, the lock that the caller holds."""
        self._forget(parent)
        statefile.remove_file(self._path("locks", parent))
