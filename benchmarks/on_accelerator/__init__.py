"""All that one would want to know on a GPU or a TPU the first time one is at hand, in one command of ten minutes."""
