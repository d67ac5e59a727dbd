//! How an image is stored: as the disk that it is, decoded, or as the file that came. Pure.

use super::ImageError;

/// How an image is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The file is the disk.
    Raw,
    /// The disk is decoded from the file.
    Qcow2,
    /// Nobody here reads this one: the file is kept as it came. Its name is for the report.
    Other(&'static str),
}

/// What files of other formats begin with, and where.
const MAGICS: &[(usize, &[u8], &str)] = &[
    (0, b"KDMV", "vmdk"),
    (0, b"COWD", "vmdk"),
    (0, b"# Disk DescriptorFile", "vmdk"),
    (64, &[0x7f, 0x10, 0xda, 0xbe], "vdi"),
    (0, b"vhdxfile", "vhdx"),
    (0, b"conectix", "vhd"),
    (0, b"QED\0", "qed"),
    (0, b"WithoutFreeSpace", "parallels"),
    (0, b"WithouFreSpacExt", "parallels"),
    (257, b"ustar", "ova"),
];
const QCOW_MAGIC: &[u8] = b"QFI\xfb";

/// What clouds call the formats that are kept as they come.
const DECLARED: &[&str] = &["vmdk", "vdi", "vhdx", "vhd", "ova", "ploop", "aki", "ari", "ami"];

impl Format {
    /// How much of a file's start tells its format, in bytes.
    pub const START_BYTES: usize = 512;

    /// The format of a file that begins like this, where the cloud declares one.
    ///
    /// What is declared raw is raw: its first bytes are the guest's, who may write there what another format begins
    /// with. What is declared qcow2 must be one. Only where nothing is declared does the content decide.
    pub fn of(declared: Option<&str>, start: &[u8]) -> Result<Self, ImageError> {
        let seen = Self::seen(start);
        match declared {
            Some("raw" | "iso") => Ok(Self::Raw),
            Some("qcow2") if seen == Self::Qcow2 => Ok(seen),
            Some("qcow2") => {
                Err(ImageError::Refused(format!("it is declared to be qcow2 and begins like {}", seen.name())))
            }
            Some(declared) => match DECLARED.iter().find(|name| **name == declared) {
                Some(name) => Ok(Self::Other(name)),
                None => Err(ImageError::Refused(format!("its format {declared:?} is not known"))),
            },
            None => Ok(seen),
        }
    }

    fn seen(start: &[u8]) -> Self {
        let begins = |at: usize, magic: &[u8]| start.get(at..).is_some_and(|rest| rest.starts_with(magic));
        if begins(0, QCOW_MAGIC) {
            return if begins(4, &[0, 0, 0, 1]) { Self::Other("qcow") } else { Self::Qcow2 };
        }
        MAGICS.iter().find(|(at, magic, _)| begins(*at, magic)).map_or(Self::Raw, |(_, _, name)| Self::Other(name))
    }

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Other(name) => name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(declared: Option<&str>, start: &[u8], expected: &str) {
        let found = Format::of(declared, start).map_or_else(|error| error.to_string(), |format| format.name().into());
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_declared_raw_is_raw_whatever_the_guest_wrote_to_its_start() {
        check(Some("raw"), b"QFI\xfb\0\0\0\x03", "raw");
        check(Some("iso"), b"KDMV", "raw");
    }

    #[test]
    fn what_is_declared_qcow2_must_be_one() {
        check(Some("qcow2"), b"QFI\xfb\0\0\0\x03", "qcow2");
        let expected = "the image is not decoded: it is declared to be qcow2 and begins like vmdk";
        check(Some("qcow2"), b"KDMV", expected);
        let expected = "the image is not decoded: it is declared to be qcow2 and begins like qcow";
        check(Some("qcow2"), b"QFI\xfb\0\0\0\x01", expected);
    }

    #[test]
    fn undeclared_files_are_known_by_their_start() {
        for (at, magic, name) in MAGICS {
            let start = [&vec![0; *at], *magic].concat();
            check(None, &start, name);
        }
        check(None, b"QFI\xfb\0\0\0\x02", "qcow2");
        check(None, &[0xeb; 512], "raw");
        check(None, b"", "raw");
    }

    #[test]
    fn declared_formats_that_nobody_reads_are_named_and_unknown_ones_refused() {
        check(Some("vmdk"), b"", "vmdk");
        check(Some("x\n"), b"", "the image is not decoded: its format \"x\\n\" is not known");
    }
}
