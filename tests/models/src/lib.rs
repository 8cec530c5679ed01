//! The protocol (resume, doubt, compare-and-set) as a model: random interleavings, and one small model exhaustively.
