"""Small worlds that several tests share: rows, objects and files, and what is done with them."""
