//! Three members on their network and disks, in namespaces that belong to this process: when it ends, however it ends, the kernel
//! takes them back together with everything that runs in them.

use std::path::Path;

use anyhow::Context;

use super::{MEMBERS, member::Member};
use crate::bed::{namespaces, network};

/// The members.
pub struct Bed {
    pub members: Vec<Member>,
}

impl Bed {
    /// Makes network and disks and starts the members. Expects namespaces of its own: see [`namespaces`].
    pub fn make(program: &Path, directory: &Path) -> anyhow::Result<Self> {
        namespaces::hide_names()?;
        network::make(MEMBERS).context("make a network between namespaces")?;
        let members = (0..MEMBERS).map(|number| Member::make(number, program, directory));
        let mut bed = Self {
            members: members.collect::<anyhow::Result<_>>()?,
        };
        for member in &mut bed.members {
            member.start()?;
        }
        Ok(bed)
    }

    /// Everything works again and everybody runs.
    pub fn heal(&mut self) -> anyhow::Result<()> {
        network::heal(MEMBERS)?;
        self.members.iter_mut().try_for_each(Member::heal)
    }

    /// Members that ended although nobody told them to, in words.
    pub fn ended_by_themselves(&mut self) -> anyhow::Result<Vec<String>> {
        let mut found = Vec::new();
        for member in &mut self.members {
            if let Some(status) = member.ended_by_itself()? {
                let last = last_words(&member.said());
                let name = member.number + 1;
                found.push(format!("member {name} ended by itself: {status}: {last}"));
            }
        }
        Ok(found)
    }
}

fn last_words(log: &str) -> String {
    let lines: Vec<_> = log.lines().rev().take(3).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
}
