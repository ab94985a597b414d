"""Stack Exchange: 7z archives of sites, rows of posts, their HTML as text, and the join of answers to questions."""
