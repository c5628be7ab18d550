"""Attachments and parents on disk. The only module that knows the layout below the state directory.

    parents/<parent>/state             JSON: the parent's record
    parents/<parent>/users/<key>       JSON: an attachment's record; the key is `<container id>:<interface>`
    parents/<parent>/vlans/<name>      empty, one for each VLAN parent of ours that stands on this one
    parents/<parent>/macs/<mac>        the key of the attachment that asked for this MAC address
    parents/<parent>/shim              exists from before the shim is created until it is complete
    parents/<parent>/shim:<key>        empty, one for each attachment that the host reaches through the shim
    networks/<network>/<key>           symbolic link to the attachment's record
    locks/<parent>                     held for every change below parents/<parent>

The fields of the documents are in cni_vlan.records. A record of an earlier boot is void, and read as absent:
the links and sandboxes of that boot are gone.
"""

import contextlib
import json
import os
import threading
from collections.abc import Iterator
from typing import NamedTuple

from cni_core import statefile
from cni_core.boot import boot_id
from cni_core.call import AttachmentKey
from cni_core.errors import IoFailure, TryAgainLater
from cni_vlan import records
from cni_vlan.parent_locks import Locks
from cni_vlan.records import OURS, AttachmentRecord, ParentRecord

STATE_DIR = "/var/lib/cni/cni-vlan"
_ATTEMPTS = 5
_LINK_PARTS = len(["..", "..", "parents", "<parent>", "users", "<key>"])


class IndexEntry(NamedTuple):
    """An attachment in a network's index: its parent, and its record if there is one.

    The parent is "" in a damaged entry.
    """

    parent: str
    record: AttachmentRecord | None


class Ledger:
    """The ledger below a directory, as seen from this boot."""

    def __init__(self, root: str = STATE_DIR) -> None:
        self._root = root
        self._boot = boot_id()

    def _path(self, *parts: str) -> str:
        return "/".join((self._root, *parts))  # os.path.join takes ten times as long, and a call needs thirty

    @contextlib.contextmanager
    def locks(self) -> Iterator[Locks]:
        """Hold the locks of parents until the end of the block."""
        held = Locks(self._root)
        try:
            yield held
        finally:
            held.release()

    def parent(self, name: str) -> ParentRecord | None:
        """Return a parent's record, None if this boot has none."""
        path = self._path("parents", name, "state")
        document = statefile.read_json(path)
        if document is None:
            # Damaged. The link's mark tells whether it is ours: no other link is removed.
            return ParentRecord(name, OURS) if os.path.exists(path) else None
        return records.parse_parent_record(name, document, self._boot)

    def write_parent(self, record: ParentRecord) -> None:
        """Record a parent under its lock; its records of an earlier boot are removed first."""
        directory = self._path("parents", record.name)
        if not statefile.make_directory(directory) and self.parent(record.name) is None:
            self.forget_parent(record.name)
            statefile.make_directory(directory)
        document = records.parent_document(record, self._boot)
        statefile.write_file(f"{directory}/state", json.dumps(document) + "\n")

    def forget_parent(self, name: str) -> None:
        """Remove all records of a parent, under its lock."""
        directory = self._path("parents", name)
        entries = set(statefile.list_directory(directory))
        for part in sorted(entries & {"users", "vlans", "macs"}):
            statefile.empty_directory(f"{directory}/{part}")
            entries.remove(part)
        for entry in entries:
            statefile.remove_file(f"{directory}/{entry}")
        statefile.remove_directory(directory)

    def enter_index(self, key: AttachmentKey, network: str, parent: str) -> None:
        """List an attachment in its network's index: from now on a DEL finds it, however incomplete."""
        name = statefile.file_name(key.text)
        index = self._path("networks", network)
        for attempt in range(_ATTEMPTS):
            statefile.make_directory(index)
            try:
                self._link(f"{index}/{name}", f"../../parents/{parent}/users/{name}")
            except IoFailure:  # removed meanwhile, empty, with the network's last attachment
                if os.path.isdir(index) or attempt + 1 == _ATTEMPTS:
                    raise
            else:
                return

    def _link(self, path: str, target: str) -> None:
        try:
            try:
                os.symlink(target, path)
            except FileExistsError:
                os.unlink(path)
                os.symlink(target, path)
        except OSError as error:
            raise IoFailure(f"write {path}: {error.strerror}") from error

    def enter(self, record: AttachmentRecord) -> None:
        """Record an attachment under its parent's lock, after the parent's record and the index entry."""
        users = self._path("parents", record.parent, "users")
        statefile.make_directory(users)
        statefile.write_file(self._record_path(record), self._text(record))
        if record.shim:
            statefile.write_file(self._shim_path(record), "", temporary=self._temporary(record))
        if record.mac:
            macs = self._path("parents", record.parent, "macs")
            statefile.make_directory(macs)
            statefile.write_file(f"{macs}/{record.mac}", record.key.text + "\n")

    def complete(self, record: AttachmentRecord) -> None:
        """Replace the record of an attachment; its ADD does so without the parent's lock.

        The temporary file is not in users/: a file that a kill left there would count as a pod.
        """
        path = self._record_path(record)
        if not os.path.exists(path):  # the runtime had died, and its GC came before the end of its ADD
            raise TryAgainLater(f"attach {record.key.text}: a GC released it before it was complete")
        statefile.write_file(path, self._text(record), temporary=self._temporary(record))

    def _temporary(self, record: AttachmentRecord) -> str:
        return self._path("parents", record.parent, f".{statefile.file_name(record.key.text)}")

    def _shim_path(self, record: AttachmentRecord) -> str:
        return self._path("parents", record.parent, f"shim:{statefile.file_name(record.key.text)}")

    def _record_path(self, record: AttachmentRecord) -> str:
        return self._path("parents", record.parent, "users", statefile.file_name(record.key.text))

    def _text(self, record: AttachmentRecord) -> str:
        return json.dumps(records.attachment_document(record, self._boot)) + "\n"

    def leave(self, record: AttachmentRecord) -> None:
        """Remove an attachment's record under its parent's lock; its index entry stays, see forget_key."""
        if record.mac and self.mac_owner(record.parent, record.mac) == record.key:
            statefile.remove_file(self._path("parents", record.parent, "macs", record.mac))
        if record.shim:
            statefile.remove_file(self._shim_path(record))
        statefile.remove_file(self._record_path(record))
        if not record.result:  # its ADD did not finish, and may have been killed in complete()
            statefile.remove_file(self._temporary(record))

    def forget_key(self, network: str, key: AttachmentKey) -> None:
        """Remove the entry of an attachment in its network's index.

        This is the last step of a release: while the entry exists, a release that was killed half-way is
        repeated.
        """
        statefile.remove_file(self._path("networks", network, statefile.file_name(key.text)))
        statefile.remove_directory(self._path("networks", network))

    def find(self, network: str, key: AttachmentKey) -> IndexEntry | None:
        """Return an attachment's entry in its network's index, None if there is none."""
        path = self._path("networks", network, statefile.file_name(key.text))
        try:
            parts = os.readlink(path).split("/")
        except OSError:
            return None
        if len(parts) != _LINK_PARTS:
            return IndexEntry("", None)
        return IndexEntry(parts[3], self.attachment(parts[3], key))

    def attachment(self, parent: str, key: AttachmentKey) -> AttachmentRecord | None:
        """Return an attachment's record, None if this boot has none."""
        path = self._path("parents", parent, "users", statefile.file_name(key.text))
        record = records.parse_attachment(statefile.read_json(path) or {}, self._boot)
        return record if record is not None and record.key == key else None

    def attachments(self, parent: str) -> Iterator[AttachmentRecord]:
        """Yield the record of every attachment on a parent."""
        directory = self._path("parents", parent, "users")
        for name in statefile.list_directory(directory):
            with contextlib.suppress(IoFailure):  # one unreadable record must not stop the other pods
                document = (statefile.read_json(f"{directory}/{name}") or {}) if name != ".new" else {}
                record = records.parse_attachment(document, self._boot)
                if record is not None:
                    yield record

    def parents(self) -> list[str]:
        """Return the name of every parent, including those of an earlier boot."""
        return sorted(statefile.list_directory(self._path("parents")))

    def keys(self, network: str) -> Iterator[AttachmentKey]:
        """Yield the key of every attachment of a network, including void ones."""
        for name in statefile.list_directory(self._path("networks", network)):
            document = statefile.read_json(self._path("networks", network, name)) or {}
            yield AttachmentKey.parse(str(document.get("key", name)))

    def networks(self) -> list[str]:
        """Return the name of every network that has attachments, including void ones."""
        return sorted(statefile.list_directory(self._path("networks")))

    def networks_of(self, key: AttachmentKey) -> list[str]:
        """Return the names of the networks that list an attachment of this boot."""
        found = ((network, self.find(network, key)) for network in self.networks())
        return [network for network, entry in found if entry is not None and entry.record is not None]

    def has_users(self, parent: str) -> bool:
        """Return whether a parent carries any attachment, at a cost that does not grow with their number."""
        return self._occupied(parent, "users")

    def has_vlans(self, parent: str) -> bool:
        """Return whether a VLAN parent of ours is stacked on this one."""
        return self._occupied(parent, "vlans")

    def needs_shim(self, parent: str) -> bool:
        """Return whether any attachment of a parent has host access."""
        names = statefile.list_directory(self._path("parents", parent))
        return any(name.startswith("shim:") for name in names)

    def begin_shim(self, parent: str) -> None:
        """Record that the shim of a parent is about to be created."""
        statefile.write_file(self._path("parents", parent, "shim"), "")

    def finish_shim(self, parent: str) -> None:
        """Record that the shim of a parent is complete, or gone."""
        statefile.remove_file(self._path("parents", parent, "shim"))

    def is_shim_begun(self, parent: str) -> bool:
        """Return whether an incomplete shim may exist."""
        return os.path.exists(self._path("parents", parent, "shim"))

    def _occupied(self, parent: str, part: str) -> bool:
        try:
            with os.scandir(self._path("parents", parent, part)) as entries:
                return any(entry.name != ".new" for entry in entries)
        except FileNotFoundError:
            return False

    def mac_owner(self, parent: str, mac: str) -> AttachmentKey | None:
        """Return the attachment that asked for a MAC address on a parent, None if there is none."""
        text = (statefile.read_file(self._path("parents", parent, "macs", mac)) or "").strip()
        return AttachmentKey.parse(text) if text else None

    def enter_vlan(self, uplink: str, vlan: str) -> None:
        """Record under the uplink's lock that a VLAN parent of ours stands on it."""
        directory = self._path("parents", uplink, "vlans")
        statefile.make_directory(directory)
        statefile.write_file(f"{directory}/{vlan}", "")

    def leave_vlan(self, uplink: str, vlan: str) -> None:
        """Remove the record of a VLAN parent that stands on an uplink."""
        statefile.remove_file(self._path("parents", uplink, "vlans", vlan))

    def check_writable(self) -> None:
        """Raise IoFailure if the ledger cannot be written."""
        statefile.make_directory(self._root)
        probe = self._path(f".probe.{threading.get_native_id()}")  # no lock is held, and two threads may ask
        statefile.write_file(probe, "", temporary=f"{probe}.new")
        statefile.remove_file(probe)
