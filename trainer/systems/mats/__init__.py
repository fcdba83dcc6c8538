"""MATS: multimodal asymmetric teacher-student."""
