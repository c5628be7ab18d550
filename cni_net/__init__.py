"""The kernel: rtnetlink messages and socket, operations on links, namespaces, sysctls, announcements."""
