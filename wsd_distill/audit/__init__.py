"""Labels that look wrong or missing, found by models that were not trained on them (docs/audit.md)."""
