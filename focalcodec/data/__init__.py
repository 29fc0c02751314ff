"""From corpus trees to batches: manifests, datasets, samplers, cached features."""
