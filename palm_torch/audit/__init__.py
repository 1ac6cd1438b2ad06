"""Checking operations of a traced inference from opened rows: numpy, never torch; needs the extra `audit`."""
