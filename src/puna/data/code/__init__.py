"""Source code: whose licence it is under, and what of a file is header."""
