//! What every sink must do, asked of each by the same code.
