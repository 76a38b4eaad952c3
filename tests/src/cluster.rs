//! Real clusters: real mysqld, agents, coordinators and routers, and the workload that shows what they lose.

pub mod data;
pub mod local;
pub mod login;
pub mod view;
pub mod writer;
