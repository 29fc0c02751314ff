"""Make batches from a corpus: manifests, datasets, samplers, cached features."""
