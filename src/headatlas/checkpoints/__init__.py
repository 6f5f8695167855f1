"""Files know tensors: where weights come from, one file per format, and nothing about the layers of a model."""
