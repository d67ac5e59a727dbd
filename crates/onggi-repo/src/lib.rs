//! onggi-repo.
