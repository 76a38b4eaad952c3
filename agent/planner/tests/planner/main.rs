//! Tests of the planner's public face. Never talks to a server.

mod cases;
mod charsets;
mod properties;
