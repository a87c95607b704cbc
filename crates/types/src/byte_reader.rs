//! A reader of fixed and length-prefixed fields from bytes that may be cut short or malformed, and the
//! writers of these fields. Numbers are little-endian.

use bytes::{Buf, Bytes, TryGetError};

/// The bytes ended before the field did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes end before the field does")]
pub struct CutShort;

impl From<TryGetError> for CutShort {
    fn from(_: TryGetError) -> Self {
        CutShort
    }
}

/// A cursor over bytes; every step returns an error if the bytes end too early.
///
/// ```
/// use quorate_types::{ByteReader, CutShort};
/// let mut reader = ByteReader::new(&[7, 1, 0, 0, 0, b'k'][..]);
/// assert_eq!(reader.u8(), Ok(7));
/// assert_eq!(reader.field(), Ok(&b"k"[..]));
/// assert_eq!(reader.u64(), Err(CutShort));
/// ```
#[derive(Clone, Debug)]
pub struct ByteReader<B>(B);

impl<B: Buf> ByteReader<B> {
    /// Begins at the first of `bytes`.
    #[must_use]
    pub fn new(bytes: B) -> ByteReader<B> {
        ByteReader(bytes)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`CutShort`] if the bytes end before the field does; the same for all steps of a reader.
    pub fn u8(&mut self) -> Result<u8, CutShort> {
        Ok(self.0.try_get_u8()?)
    }

    /// Two bytes.
    ///
    /// # Errors
    /// As [`ByteReader::u8`].
    pub fn u16(&mut self) -> Result<u16, CutShort> {
        Ok(self.0.try_get_u16_le()?)
    }

    /// Four bytes.
    ///
    /// # Errors
    /// As [`ByteReader::u8`].
    pub fn u32(&mut self) -> Result<u32, CutShort> {
        Ok(self.0.try_get_u32_le()?)
    }

    /// Eight bytes.
    ///
    /// # Errors
    /// As [`ByteReader::u8`].
    pub fn u64(&mut self) -> Result<u64, CutShort> {
        Ok(self.0.try_get_u64_le()?)
    }

    /// Sixteen bytes.
    ///
    /// # Errors
    /// As [`ByteReader::u8`].
    pub fn u128(&mut self) -> Result<u128, CutShort> {
        Ok(self.0.try_get_u128_le()?)
    }

    /// The number of bytes that are not read yet.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.0.remaining()
    }

    /// True once everything is read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.0.has_remaining()
    }
}

/// Fields of a slice are borrowed from it.
impl<'a> ByteReader<&'a [u8]> {
    /// The next `len` bytes.
    ///
    /// # Errors
    /// As [`ByteReader::u8`].
    pub fn slice(&mut self, len: usize) -> Result<&'a [u8], CutShort> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(CutShort)?;
        self.0 = rest;
        Ok(head)
    }

    /// A field behind a u32 length.
    ///
    /// # Errors
    /// As [`ByteReader::u8`].
    pub fn field(&mut self) -> Result<&'a [u8], CutShort> {
        let len = self.u32()? as usize;
        self.slice(len)
    }

    /// A field behind a u32 length, or nothing; a byte before it says which.
    ///
    /// # Errors
    /// As [`ByteReader::u8`].
    pub fn optional_field(&mut self) -> Result<Option<&'a [u8]>, CutShort> {
        match self.u8()? {
            0 => Ok(None),
            _ => self.field().map(Some),
        }
    }

    /// All bytes that are not read yet.
    #[must_use]
    pub fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// Fields of shared bytes share memory with them.
impl ByteReader<Bytes> {
    /// The next `len` bytes.
    ///
    /// # Errors
    /// As [`ByteReader::u8`].
    pub fn slice(&mut self, len: usize) -> Result<Bytes, CutShort> {
        if len > self.0.len() { Err(CutShort) } else { Ok(self.0.split_to(len)) }
    }

    /// A field behind a u32 length.
    ///
    /// # Errors
    /// As [`ByteReader::u8`].
    pub fn field(&mut self) -> Result<Bytes, CutShort> {
        let len = self.u32()? as usize;
        self.slice(len)
    }

    /// A field behind a u32 length, or nothing; a byte before it says which.
    ///
    /// # Errors
    /// As [`ByteReader::u8`].
    pub fn optional_field(&mut self) -> Result<Option<Bytes>, CutShort> {
        match self.u8()? {
            0 => Ok(None),
            _ => self.field().map(Some),
        }
    }
}

/// Writes a count of items or bytes that follow.
///
/// # Panics
/// If `count` is beyond 32 bits.
pub fn put_count(out: &mut Vec<u8>, count: usize) {
    let count =
        u32::try_from(count).expect("a list has fewer than 2^32 items, a field is below 4 GiB");
    out.extend_from_slice(&count.to_le_bytes());
}

/// Writes what [`ByteReader::field`] reads.
///
/// # Panics
/// If the field is 4 GiB or longer.
pub fn put_field(out: &mut Vec<u8>, field: &[u8]) {
    put_count(out, field.len());
    out.extend_from_slice(field);
}

/// Writes what [`ByteReader::optional_field`] reads.
///
/// # Panics
/// If the field is 4 GiB or longer.
pub fn put_optional_field(out: &mut Vec<u8>, field: Option<&[u8]>) {
    match field {
        None => out.push(0),
        Some(field) => {
            out.push(1);
            put_field(out, field);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Fields<'a> = (&'a [u8], Option<&'a [u8]>, Option<&'a [u8]>);

    fn read_fields<'a>(reader: &mut ByteReader<&'a [u8]>) -> Result<Fields<'a>, CutShort> {
        Ok((reader.field()?, reader.optional_field()?, reader.optional_field()?))
    }

    fn read_numbers(reader: &mut ByteReader<&[u8]>) -> Result<(u8, u16, u32), CutShort> {
        Ok((reader.u8()?, reader.u16()?, reader.u32()?))
    }

    /// Goal: what is written is read again, and every cut is reported. Method: one of each kind.
    #[test]
    fn fields_survive_their_bytes_and_every_cut_is_told() {
        let mut bytes = Vec::new();
        put_field(&mut bytes, b"key");
        put_optional_field(&mut bytes, None);
        put_optional_field(&mut bytes, Some(b""));
        bytes.extend_from_slice(&[1, 2, 0, 3, 0, 0, 0]);
        let mut reader = ByteReader::new(&bytes[..]);
        assert_eq!(read_fields(&mut reader), Ok((&b"key"[..], None, Some(&b""[..]))));
        assert_eq!(read_numbers(&mut reader), Ok((1, 2, 3)));
        assert!(reader.is_empty());
        for cut in 0..bytes.len() {
            let mut reader = ByteReader::new(&bytes[..cut]);
            let read = read_fields(&mut reader).and_then(|_| read_numbers(&mut reader));
            assert_eq!(read, Err(CutShort));
        }
        let mut shared = ByteReader::new(Bytes::from(bytes));
        assert_eq!(shared.field(), Ok(Bytes::from_static(b"key")));
        assert_eq!((shared.optional_field(), shared.u8()), (Ok(None), Ok(1)));
        assert_eq!((shared.field(), shared.remaining()), (Ok(Bytes::new()), 7));
        assert_eq!(shared.slice(8), Err(CutShort));
    }
}
