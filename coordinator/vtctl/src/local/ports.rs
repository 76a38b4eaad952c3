//! Whether ports are free. A look, not a reservation: whoever comes in between is told of by the daemon that then fails.

use std::{io, net::TcpListener};

use super::cluster::HOST;

/// Those of the ports that somebody else listens on, or that may not be used.
pub fn taken(ports: impl IntoIterator<Item = u16>) -> Vec<(u16, io::Error)> {
    let try_port = |port| {
        TcpListener::bind((HOST, port))
            .err()
            .map(|error| (port, error))
    };
    ports.into_iter().filter_map(try_port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_seen() {
        let holder = TcpListener::bind((HOST, 0)).unwrap();
        let port = holder.local_addr().unwrap().port();
        assert_eq!(taken([port]).len(), 1);
    }
}
