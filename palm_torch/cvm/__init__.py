"""Evidence of confidential virtual machines: formats, checks and attesters; torch-free."""
