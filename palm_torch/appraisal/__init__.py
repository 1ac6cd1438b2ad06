"""Appraising evidence: the verifier and its steps, receipts, chains, and policies to start from.

Reading order: verifier; freshness, continuation, consistency, code_rules, claims, data_rules, files_at_hand,
artifacts and datasets_at_hand (its steps); reservations; receipts, chain, seen; policy_template and
policy_summary.
"""
