"""The running model, and the texts that it is asked."""
