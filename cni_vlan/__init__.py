"""The main plugin: macvlan and ipvlan interfaces in pods, on parents that it creates as needed."""
