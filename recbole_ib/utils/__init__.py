"""Files, yaml, plots, Ray and checks of values."""
