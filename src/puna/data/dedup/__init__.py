"""Duplicates: policies (exact documents here) over one exchange that sees the whole corpus."""
