//! Polynomials over GF(2), as far as the chunker needs them: bit i of the word is the coefficient of x^i.

use std::{fmt, str::FromStr};

/// An irreducible polynomial of degree 53. Two repositories with the same one cut the same content into the same chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Polynomial(u64);

/// A number is no irreducible polynomial of degree 53.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an irreducible polynomial of degree 53: {0:?}")]
pub struct BadPolynomial(String);

impl Polynomial {
    /// The degree, always.
    pub const DEGREE: u32 = 53;

    /// Checks the degree and that it is irreducible.
    pub fn new(bits: u64) -> Result<Self, BadPolynomial> {
        if degree(bits) == Some(Self::DEGREE) && is_irreducible(bits) {
            Ok(Self(bits))
        } else {
            Err(BadPolynomial(format!("{bits:x}")))
        }
    }

    /// The polynomial in 64 random bits, if they hold one: about one draw in 27 does.
    pub fn from_random(bits: u64) -> Option<Self> {
        Self::new(bits & ((1 << (Self::DEGREE + 1)) - 1) | 1 << Self::DEGREE | 1).ok()
    }

    /// The coefficients.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The remainder of a product with a power of x: `value * x^power mod self`.
    pub(crate) fn shift(self, value: u64, power: u32) -> u64 {
        (0..power).fold(reduce(u128::from(value), self.0), |value, _| reduce(u128::from(value) << 1, self.0))
    }
}

impl fmt::Display for Polynomial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl FromStr for Polynomial {
    type Err = BadPolynomial;

    /// Reads hex digits without a prefix.
    fn from_str(text: &str) -> Result<Self, BadPolynomial> {
        let bad = || BadPolynomial(text.chars().take(20).collect());
        if text.starts_with('+') {
            return Err(bad());
        }
        Self::new(u64::from_str_radix(text, 16).map_err(|_| bad())?).map_err(|_| bad())
    }
}

fn degree(value: u64) -> Option<u32> {
    value.checked_ilog2()
}

/// The remainder of a division by a polynomial that is not zero.
fn reduce(mut value: u128, by: u64) -> u64 {
    let width = by.ilog2();
    while let Some(top) = value.checked_ilog2().filter(|&top| top >= width) {
        value ^= u128::from(by) << (top - width);
    }
    value as u64
}

fn square(value: u64, modulus: u64) -> u64 {
    let spread = (0..64).fold(0_u128, |spread, bit| spread | u128::from(value >> bit & 1) << (2 * bit));
    reduce(spread, modulus)
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, reduce(u128::from(a), b));
    }
    a
}

/// Ben-Or's test: no factor of degree i for any i up to half the degree.
fn is_irreducible(polynomial: u64) -> bool {
    const X: u64 = 2;
    let half = polynomial.ilog2() / 2;
    let mut power = X;
    (1..=half).all(|_| {
        power = square(power, polynomial);
        gcd(polynomial, power ^ X) == 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_polynomials_are_irreducible() {
        for text in ["3da3358b4dc173", "3cbfb22b6022a9"] {
            assert_eq!(text.parse::<Polynomial>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn others_are_refused() {
        for text in [
            "",
            "0",
            "1",
            "3cbfb22b6022a8",
            "3cbfb22b6022ab",
            "+3cbfb22b6022a9",
            "7cbfb22b6022a9",
            "g",
            "ffffffffffffffffff",
        ] {
            assert!(text.parse::<Polynomial>().is_err(), "{text}");
        }
    }

    #[test]
    fn small_degrees_agree_with_trial_division() {
        for polynomial in 2..4096_u64 {
            let has_factor = (2..64).any(|by: u64| {
                by < polynomial && by.ilog2() < polynomial.ilog2() && reduce(polynomial.into(), by) == 0
            });
            assert_eq!(is_irreducible(polynomial), !has_factor, "{polynomial:b}");
        }
    }

    #[test]
    fn about_one_random_draw_in_27_is_irreducible() {
        let mut state = 1_u64;
        let found = (0..2700).filter(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            Polynomial::from_random(state ^ state >> 29).is_some()
        });
        assert!((60..150).contains(&found.count()));
    }
}
