//! What backups of OpenStack's servers rest on: the disks of images that strangers made.

pub mod image;
