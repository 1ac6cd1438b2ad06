"""Dataset formats, one file each, registered in a table."""
