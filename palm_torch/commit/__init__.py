"""Commitments: multiset hashes, Merkle trees, manifests and the weights root; pure and torch-free."""
