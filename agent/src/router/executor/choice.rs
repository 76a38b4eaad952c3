//! Which replica answers a session's reads: one of the router's own cell if it can, of these the one with the least to do; and then the
//! same one as long as it is fit, so that what the session reads does not go back in time.
//!
//! It decides from what it is given; whether a replica is fit is said by the caller.

use vt_proto::topology::Endpoint;

/// A replica that may answer.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    pub endpoint: &'a Endpoint,
    /// It is in the router's cell.
    pub is_near: bool,
    /// Statements that this thread of the router has there now, under way or waiting for a connection.
    pub load: usize,
}

/// The replica for a session that was at `kept` before. Sessions that find several equal ones are spread by their number.
pub fn choose<'a>(
    candidates: &[Candidate<'a>],
    kept: Option<&Endpoint>,
    session: u64,
) -> Option<&'a Endpoint> {
    let rank = |it: &Candidate<'_>| (!it.is_near, it.load);
    let best = candidates.iter().map(rank).min()?;
    let same = candidates
        .iter()
        .find(|it| Some(it.endpoint) == kept && it.is_near != best.0);
    if let Some(same) = same {
        return Some(same.endpoint);
    }
    let equal: Vec<_> = candidates.iter().filter(|it| rank(it) == best).collect();
    let index = session.checked_rem(equal.len() as u64)?;
    Some(equal[index as usize].endpoint)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, whether it is near, its load.
    type Given = (&'static str, bool, usize);
    /// Who is fit, whom the session kept, its number, and who answers.
    type Case = (
        &'static [Given],
        Option<&'static str>,
        u64,
        Option<&'static str>,
    );

    const CASES: &[Case] = &[
        (&[], Some("a"), 7, None),
        // The own cell, though busier.
        (&[("a", false, 0), ("b", true, 9)], None, 0, Some("b")),
        (&[("a", true, 3), ("b", true, 2)], None, 0, Some("b")),
        // Equal ones in turn.
        (&[("a", true, 1), ("b", true, 1)], None, 5, Some("b")),
        // The session stays, but not with one that is not fit.
        (&[("a", true, 0), ("b", true, 9)], Some("b"), 0, Some("b")),
        (&[("a", true, 5)], Some("b"), 0, Some("a")),
        // Far away only while nobody is near.
        (&[("a", false, 0), ("b", false, 9)], Some("b"), 0, Some("b")),
        (&[("a", true, 9), ("b", false, 0)], Some("b"), 0, Some("a")),
    ];

    fn endpoint(host: &str) -> Endpoint {
        Endpoint {
            host: host.to_owned(),
            port: 3306,
        }
    }

    #[test]
    fn the_own_cell_comes_first_and_then_who_has_least_to_do() {
        for (given, kept, session, expected) in CASES {
            let endpoints: Vec<_> = given.iter().map(|(name, ..)| endpoint(name)).collect();
            let candidates: Vec<_> = endpoints
                .iter()
                .zip(*given)
                .map(|(endpoint, (_, is_near, load))| Candidate {
                    endpoint,
                    is_near: *is_near,
                    load: *load,
                })
                .collect();
            let kept_at = kept.map(endpoint);
            let chosen = choose(&candidates, kept_at.as_ref(), *session);
            let chosen = chosen.map(|it| it.host.as_str());
            assert_eq!(chosen, *expected, "{given:?} {kept:?} {session}");
        }
    }
}
