"""Appraising evidence: the verifier and its steps, receipts, chains, and policies to start from.

Reading order: verifier; freshness, continuation, consistency, code_rules, claims and artifacts (its steps);
reservations; receipts, chain, seen; policy_template and policy_summary.
"""
