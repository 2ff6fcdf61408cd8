//! Compiles every .proto of this crate with protox (no protoc needed) into Rust types and one descriptor set.

use std::{env, fs, path::PathBuf};

/// Compile-time annotations of the .proto files. They stay in the descriptors, but nobody needs Rust types of them.
const ANNOTATIONS: &str = "google.api";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut files = Vec::new();
    for dir in ["amino", "cosmos", "google", "tendermint", "tenure"] {
        println!("cargo:rerun-if-changed={dir}");
        collect(&root.join(dir), &mut files)?;
    }
    files.sort();
    let mut compiler = protox::Compiler::new([&root])?;
    compiler
        .include_source_info(true)
        .include_imports(true)
        .open_files(files)?;
    // Encoded by the compiler: prost's own descriptor types would drop the options that extend them, such as google.api.http.
    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    let mut descriptors = compiler.file_descriptor_set();
    descriptors.file.retain(|file| file.package() != ANNOTATIONS);

    let grpc = env::var_os("CARGO_FEATURE_GRPC").is_some();
    let mut prost = tonic_build::Config::new();
    prost.enable_type_names();
    tonic_build::configure()
        .build_client(grpc)
        .build_server(grpc)
        .build_transport(grpc)
        .include_file("protos.rs")
        .compile_fds_with_config(prost, descriptors)?;
    Ok(())
}

fn collect(dir: &std::path::Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            files.push(path);
        }
    }
    Ok(())
}
