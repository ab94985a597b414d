"""MediaWiki: dumps cut into pages, and wikitext turned into the text that a reader sees."""
