//! Bytes as choices. When they are used up, everything is 0.

/// Hands out bytes from the front.
#[derive(Clone, Debug)]
pub struct Source<'a> {
    rest: &'a [u8],
}

impl<'a> Source<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Source { rest: data }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        match self.rest.split_first() {
            Some((first, rest)) => {
                self.rest = rest;
                *first
            }
            None => 0,
        }
    }

    /// Up to `count` bytes.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.byte())
    }

    /// A number: small ones and the edges cost one byte.
    pub fn number(&mut self) -> u64 {
        match self.byte() {
            small @ 0..=239 => u64::from(small),
            240 => u64::MAX,
            241 => 1 << 48,
            242 => (1 << 48) - 1,
            243 => u64::from(u32::MAX),
            244..=247 => u64::from(u16::from_be_bytes(self.array())),
            248..=251 => u64::from(u32::from_be_bytes(self.array())),
            252..=255 => u64::from_be_bytes(self.array()),
        }
    }

    /// A number of 32 bits.
    pub fn short(&mut self) -> u32 {
        u32::try_from(self.number() & u64::from(u32::MAX)).unwrap_or(u32::MAX)
    }

    /// Up to 255 bytes, by a length in front.
    pub fn blob(&mut self) -> Vec<u8> {
        let length = usize::from(self.byte());
        self.take(length).to_vec()
    }

    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Everything that is left.
    pub fn rest(self) -> &'a [u8] {
        self.rest
    }
}
