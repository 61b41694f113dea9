"""FedHM under attack by a fifth of its clients, with every merge."""
