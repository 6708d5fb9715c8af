"""The report of a comparison: tables, charts, findings and the page."""
