//! A port for a server that cannot be told to take any free one.
//!
//! Ports come from below the range from which the kernel serves outgoing connections and `bind` to port 0, so that
//! nothing but a server asking for the very same number can take it between the choice and the use, or while a
//! stopped node is down and means to come back to it. That leaves a race of one in ten thousand, and the caller tries
//! again when it loses.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;

use rand::Rng;

/// Linux serves from 32768 upwards unless told otherwise; below 20000 live the well-known servers, bitcoind's own
/// default ports among them.
const CANDIDATES: Range<u16> = 20_000..32_000;

/// A loopback address on which nothing listens at this moment.
///
/// # Errors
/// The operating system's, when a hundred random ports are all taken or may not be used.
pub(crate) fn unused() -> io::Result<SocketAddr> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..100 {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, rand::thread_rng().gen_range(CANDIDATES)));
        match TcpListener::bind(address) {
            Ok(_) => return Ok(address),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unused_port_can_be_listened_on() {
        let address = unused().unwrap();
        assert!(CANDIDATES.contains(&address.port()));
        let _listener = TcpListener::bind(address).unwrap();
    }
}
