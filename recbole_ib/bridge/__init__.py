"""Bridges: models of other toolkits, trained and evaluated here."""
