//! onggi-engine.
