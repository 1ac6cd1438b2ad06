"""Replays: what no bound is derived for, computed again in torch and compared with what a trace binds."""
