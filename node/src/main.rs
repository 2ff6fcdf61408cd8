//! The binary `tenured`.

/// A block is many small allocations that live until it is answered; glibc's allocator takes a third of its time for them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    tenure_node::cmd::run()
}
