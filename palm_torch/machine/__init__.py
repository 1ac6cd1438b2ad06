"""What a machine offers to a session, and why not; `palm_torch.doctor` puts it together.

Everything is looked at and nothing is asked to attest: what is found here is good for advice, and is evidence
of nothing. Reading order: finding, guest, gpu_mode, software.
"""
