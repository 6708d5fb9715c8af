"""Search for the settings of a model: spaces, trials on Ray Tune, tables and plots."""
