"""Scores of a document's quality: what the CommonCrawl pipeline keeps is decided on them (paper, section 2.1)."""
