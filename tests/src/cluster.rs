//! Real clusters: real mysqld, agents, coordinators and routers, and the workload that shows what they lose.

pub mod login;
pub mod writer;
