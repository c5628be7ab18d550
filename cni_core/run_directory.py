"""The paths below /run/cni-vlan: gone with the boot, shared by agents, plugins and launchers of a host.

launcher/launcher.c defines the first two as well.
"""

AGENT_SOCKET = "/run/cni-vlan/agent.sock"
BOOT = "/run/cni-vlan/boot"
METRICS_SOCKET = "/run/cni-vlan/metrics.sock"
ATTACHMENT_LOCKS = "/run/cni-vlan/attachments"
EXPORT_LOCK = "/run/cni-vlan/export.lock"
VALIDATED = "/run/cni-vlan/validated"
