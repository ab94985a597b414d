"""What is told of web pages: WARC and WET files, HTTP, charsets, the main text of HTML, and C4's rules."""
