"""NTSNet: a student of contextual transformer blocks beside a frozen teacher."""
