"""Files of torch.save, read without executing their pickles."""
