//! The recovery sheet: a generated password as twelve words that can be printed, read aloud and typed.
//!
//! The words joined by `-` *are* the password, so the sheet alone opens the repository, with onggi or restic. They carry
//! 128 random bits and a checksum (BIP 39).

use bip39::{Language, Mnemonic};
use secrecy::{ExposeSecret as _, SecretString};

/// Words on the sheet.
pub const WORDS: usize = 12;
/// Random bytes that a password takes.
pub const RANDOM_BYTES: usize = 16;

/// Makes a password out of randomness.
pub fn password(random: &[u8; RANDOM_BYTES]) -> SecretString {
    let words = Mnemonic::from_entropy_in(Language::English, random).expect("sixteen bytes are twelve words");
    words.words().collect::<Vec<_>>().join("-").into()
}

/// Whether somebody who has the sheet answers like this for the word with this number, counted from 1.
pub fn knows_word(password: &SecretString, number: usize, answer: &str) -> bool {
    let answer = answer.trim().to_lowercase();
    password.expose_secret().split('-').nth(number.wrapping_sub(1)).is_some_and(|word| word == answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sheet_has_twelve_words_and_each_is_known() {
        let password = password(&[0x7f; RANDOM_BYTES]);
        assert_eq!(
            password.expose_secret(),
            "legal-winner-thank-year-wave-sausage-worth-useful-legal-winner-thank-yellow"
        );
        assert_eq!(password.expose_secret().split('-').count(), WORDS);
        assert!(knows_word(&password, 12, " Yellow\n"));
        assert!(!knows_word(&password, 0, "legal") && !knows_word(&password, 13, "yellow"));
    }
}
