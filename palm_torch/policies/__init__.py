"""What a verifier demands: strict YAML, signing keys, an authority's reference values, the policy."""
