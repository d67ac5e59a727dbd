//! onggi-lab.
