"""Making evidence: sessions around a loop, checkpoints to go on from, scripts run as they are.

Reading order: attested, session, block, measured, training (with training_data and
training_model), sealing, gpus; own_segment, checkpoint, resuming; launch.
"""
