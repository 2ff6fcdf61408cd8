//! The binary `tenured`.

fn main() -> std::process::ExitCode {
    tenure_node::cmd::run()
}
