"""The statistics of a comparison: paired tests, slices and costs."""
