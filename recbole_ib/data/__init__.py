"""Data sets with modalities: feature files, RecBole's data set with them, converters from other layouts."""
