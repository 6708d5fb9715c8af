"""Settings: RecBole's Config with this package's yaml files, checks and words of the command line."""

from recbole_ib.deprecated import moved_attributes

__getattr__ = moved_attributes("config")
