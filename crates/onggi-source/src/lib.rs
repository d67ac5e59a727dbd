//! onggi-source.
