"""Models around a backbone, which change what it reads or add to its loss."""
