//! Compiles the .proto files without protoc, and their descriptors for reflection.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

const FILES: &[&str] = &[
    "topology.proto",
    "records.proto",
    "agent.proto",
    "routing.proto",
    "session.proto",
    "admin.proto",
    "maintenance.proto",
    "raft.proto",
    "storage.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("vitrail.v1.bin"), descriptors.encode_to_vec())?;
    let rpc = env::var_os("CARGO_FEATURE_RPC").is_some();
    tonic_prost_build::configure()
        .build_client(rpc)
        .build_server(rpc)
        .codec_path("crate::codec::Codec")
        // Their hashes are for no log.
        .skip_debug(["User", "CreateUserRequest", "ChangeUserRequest"])
        // One encoding of a change is sent to every subscriber.
        .bytes(".vitrail.v1.RecordsUpdate.changes")
        // Encoded once and shared by all who watch.
        .bytes(".vitrail.v1.RoutingUpdate")
        .compile_fds(descriptors)?;
    Ok(())
}
