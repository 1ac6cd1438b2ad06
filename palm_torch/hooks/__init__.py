"""What is measured inside a running torch process, through torch's own hooks."""
