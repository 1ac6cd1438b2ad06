"""Evidence of confidential virtual machines: formats, checks and attesters; torch-free.

Bytes are parsed strictly (`quote`, `collateral`, `der`, `certificate_bytes`), then verified up to a pinned
root (`certificates`, `revocation`, `pck`, `tdx`), then appraised (`appraisal`). `binding` says what quotes
commit to. `attester` finds the machine's attester; `simulated`, with its `simulated_*` parts, is the one
without hardware, and goes through the same verification.
"""
