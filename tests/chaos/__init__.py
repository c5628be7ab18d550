"""Pods that come and go on a node where everything goes wrong, from one seed."""
