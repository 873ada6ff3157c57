//! What a process used so far, as the kernel counts it.

use std::io;

/// Linux counts processor time in hundredths of a second for programs, whatever the kernel's own clock (`getconf CLK_TCK`).
const TICK_US: u64 = 10_000;

/// Since the start of the process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// Processor time of all its threads, the kernel's part included, in microseconds.
    pub cpu_us: u64,
    /// Bytes it caused to be written to storage.
    pub written_bytes: u64,
}

impl Used {
    /// Reads the counters of a running process.
    ///
    /// # Errors
    /// The operating system's; the process may have ended.
    pub fn read(id: u32) -> io::Result<Used> {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
        let io = std::fs::read_to_string(format!("/proc/{id}/io"))?;
        let malformed = || io::Error::new(io::ErrorKind::InvalidData, "an unknown form of /proc");
        Ok(Used {
            cpu_us: cpu_us(&stat).ok_or_else(malformed)?,
            written_bytes: written_bytes(&io).ok_or_else(malformed)?,
        })
    }

    /// What was used between an earlier look and this one.
    pub fn since(self, earlier: Used) -> Used {
        Used {
            cpu_us: self.cpu_us.saturating_sub(earlier.cpu_us),
            written_bytes: self.written_bytes.saturating_sub(earlier.written_bytes),
        }
    }
}

/// The program's name comes second, in parentheses, and may hold anything; `utime` and `stime` are the 12th and 13th fields
/// after it (proc_pid_stat(5)).
fn cpu_us(stat: &str) -> Option<u64> {
    let after_name = stat.rsplit_once(')')?.1;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)?.checked_mul(TICK_US)
}

fn written_bytes(io: &str) -> Option<u64> {
    io.lines().find_map(|line| line.strip_prefix("write_bytes:")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_confuse() {
        let stat = "7 (a ) (b) S 1 7 7 0 -1 4194304 100 0 0 0 12 30 0 0 20 0 1 0 5 6 7";
        assert_eq!(cpu_us(stat), Some(420_000));
    }

    #[test]
    fn this_process_can_be_read() {
        let first = Used::read(std::process::id()).unwrap();
        let second = Used::read(std::process::id()).unwrap();
        assert!(second.cpu_us >= first.cpu_us);
    }
}
