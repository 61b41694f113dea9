"""From a config, and what is handed over with it, to the parts of a run."""
