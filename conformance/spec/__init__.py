"""The CNI specification as tests of any plugin, judged only from outside."""
