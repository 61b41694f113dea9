"""What a run has trained: models that predict, in memory and in the folder of the run."""
