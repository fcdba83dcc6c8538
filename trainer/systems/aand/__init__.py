"""AAND: anomaly amplification and normality distillation."""
