//! Numbers, texts and lists as bytes: numbers seven bits at a time, everything of variable length with its length before
//! it. Nothing is allocated from a length that was only claimed.

/// The longest single byte string, in bytes.
const BYTES_MAX: usize = 64 << 10;
/// The longest list.
const LIST_MAX: u64 = 65_536;

/// Bytes that are no message; says what is wrong with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// What can stand in a message.
pub(crate) trait Field: Sized {
    fn put(&self, into: &mut Vec<u8>);
    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed>;
}

/// Reads a message from its start.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn exactly(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed("the message is cut"))?;
        self.rest = rest;
        Ok(taken)
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// A byte string of at most so many bytes.
    pub(crate) fn bytes(&mut self, max: usize) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(u64::take(self)?).ok().filter(|length| *length <= max);
        self.exactly(length.ok_or(Malformed("a text is too long"))?)
    }

    /// The length of a list.
    pub(crate) fn count(&mut self, max: u64) -> Result<u64, Malformed> {
        Some(u64::take(self)?).filter(|count| *count <= max).ok_or(Malformed("a list is too long"))
    }

    /// Proves that all was read.
    pub(crate) fn end(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed("the message is longer than what it says")) }
    }
}

pub(crate) fn put_bytes(bytes: &[u8], into: &mut Vec<u8>) {
    (bytes.len() as u64).put(into);
    into.extend_from_slice(bytes);
}

impl Field for u64 {
    fn put(&self, into: &mut Vec<u8>) {
        let mut left = *self;
        while left >= 0x80 {
            into.push(left as u8 | 0x80);
            left >>= 7;
        }
        into.push(left as u8);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (mut number, mut shift) = (0_u64, 0);
        loop {
            let byte = from.exactly(1)?[0];
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 || shift > 63 {
                return Err(Malformed("a number is too large"));
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
            shift += 7;
        }
    }
}

/// Small in either direction.
impl Field for i64 {
    fn put(&self, into: &mut Vec<u8>) {
        ((*self << 1) ^ (*self >> 63)).cast_unsigned().put(into);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let folded = u64::take(from)?;
        Ok((folded >> 1).cast_signed() ^ -(folded & 1).cast_signed())
    }
}

impl Field for i32 {
    fn put(&self, into: &mut Vec<u8>) {
        i64::from(*self).put(into);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        i64::take(from)?.try_into().map_err(|_| Malformed("a number is too large"))
    }
}

impl Field for u32 {
    fn put(&self, into: &mut Vec<u8>) {
        u64::from(*self).put(into);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        u64::take(from)?.try_into().map_err(|_| Malformed("a number is too large"))
    }
}

impl Field for u8 {
    fn put(&self, into: &mut Vec<u8>) {
        into.push(*self);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(from.exactly(1)?[0])
    }
}

impl Field for bool {
    fn put(&self, into: &mut Vec<u8>) {
        into.push(u8::from(*self));
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        match from.exactly(1)?[0] {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed("a two-way choice has a third value")),
        }
    }
}

impl Field for [u8; 32] {
    fn put(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(self);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        from.exactly(32)?.try_into().map_err(|_| Malformed("a digest is cut"))
    }
}

impl Field for Vec<u8> {
    fn put(&self, into: &mut Vec<u8>) {
        put_bytes(self, into);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(from.bytes(BYTES_MAX)?.to_vec())
    }
}

impl<A: Field, B: Field> Field for (A, B) {
    fn put(&self, into: &mut Vec<u8>) {
        self.0.put(into);
        self.1.put(into);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok((A::take(from)?, B::take(from)?))
    }
}

/// A list grows as it is read: what a short message claims costs nothing.
macro_rules! list {
    ($($item:ty),*) => {$(
        impl Field for Vec<$item> {
            fn put(&self, into: &mut Vec<u8>) {
                (self.len() as u64).put(into);
                for item in self {
                    item.put(into);
                }
            }

            fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
                let count = from.count(LIST_MAX)?;
                let mut list = Vec::new();
                for _ in 0..count {
                    list.push(<$item>::take(from)?);
                }
                Ok(list)
            }
        }
    )*};
}
list!(Vec<u8>, (u64, u64), (u64, [u8; 32]), (u32, Vec<u8>), (Vec<u8>, Vec<u8>));

/// A type whose fields go over the wire in their order.
macro_rules! fields {
    ($name:ident { $($field:ident),* $(,)? }) => {
        impl crate::wire::Field for $name {
            fn put(&self, into: &mut Vec<u8>) {
                $(crate::wire::Field::put(&self.$field, into);)*
            }

            fn take(from: &mut crate::wire::Reader<'_>) -> Result<Self, crate::wire::Malformed> {
                $(let $field = crate::wire::Field::take(from)?;)*
                Ok(Self { $($field),* })
            }
        }
    };
}
pub(crate) use fields;
