//! Reads fixed and length-prefixed fields from bytes that may be cut short or senseless.

/// The bytes ended before the field did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CutShort;

/// A cursor over borrowed bytes; every step says whether the bytes were there.
pub(crate) struct BytesReader<'a> {
    rest: &'a [u8],
}

impl<'a> BytesReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> BytesReader<'a> {
        BytesReader { rest: bytes }
    }

    pub(crate) fn u8(&mut self) -> Result<u8, CutShort> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u32(&mut self) -> Result<u32, CutShort> {
        Ok(u32::from_le_bytes(*self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, CutShort> {
        Ok(u64::from_le_bytes(*self.array()?))
    }

    pub(crate) fn u128(&mut self) -> Result<u128, CutShort> {
        Ok(u128::from_le_bytes(*self.array()?))
    }

    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], CutShort> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(CutShort)?;
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn slice(&mut self, len: usize) -> Result<&'a [u8], CutShort> {
        if len > self.rest.len() {
            return Err(CutShort);
        }
        let (head, rest) = self.rest.split_at(len);
        self.rest = rest;
        Ok(head)
    }

    /// A field behind a u32 length.
    pub(crate) fn field(&mut self) -> Result<&'a [u8], CutShort> {
        let len = self.u32()? as usize;
        self.slice(len)
    }

    /// A field behind a u32 length, or nothing, behind one byte that says which.
    pub(crate) fn optional_field(&mut self) -> Result<Option<&'a [u8]>, CutShort> {
        match self.u8()? {
            0 => Ok(None),
            _ => self.field().map(Some),
        }
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

/// Writes how many items follow, or how many bytes.
pub(crate) fn put_count(out: &mut Vec<u8>, count: usize) {
    let count =
        u32::try_from(count).expect("a list has fewer than 2^32 items, a field is below 4 GiB");
    out.extend_from_slice(&count.to_le_bytes());
}

/// Writes what [`BytesReader::field`] reads.
pub(crate) fn put_field(out: &mut Vec<u8>, field: &[u8]) {
    put_count(out, field.len());
    out.extend_from_slice(field);
}

/// Writes what [`BytesReader::optional_field`] reads.
pub(crate) fn put_optional_field(out: &mut Vec<u8>, field: Option<&[u8]>) {
    match field {
        None => out.push(0),
        Some(field) => {
            out.push(1);
            put_field(out, field);
        }
    }
}
