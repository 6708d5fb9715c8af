"""The backbones, one file per model."""
