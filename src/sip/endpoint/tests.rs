//! Tests of the endpoint through its public door.

mod answers;
mod flows;
mod limits;
mod link;
mod race;
mod support;
mod torture;
mod uac;
mod uas;
