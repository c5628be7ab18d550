"""The IPAM plugin: leases of IPv4 and IPv6 addresses on disk."""
