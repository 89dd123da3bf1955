//! `cargo xtask`: the development commands of pmon. One file or directory per
//! command; what they install is in `packages`, how they run programs in
//! `command`.
//!
//! Nothing here is part of the product: the `pmon` binary must build and run
//! without it.

mod bench;
mod command;
mod ebpf;
mod image;
mod packages;
mod run;
mod soak;
mod test;
mod vm;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

/// Development commands of pmon.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Measure: `cargo xtask bench detect`; `cargo xtask bench help` tells more.
    #[command(disable_help_flag = true)]
    Bench {
        /// A measurement and its options.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Build the BPF object from source into `pmon-user/bpf/`.
    Ebpf {
        /// Change nothing; fail unless the checked-in object comes from the sources.
        #[arg(long)]
        check: bool,
    },
    /// Build pmon's OCI image offline, as an archive.
    Image {
        /// The `pmon` to put into it. Default: the release build
        #[arg(long)]
        binary: Option<PathBuf>,
        /// Where to write the archive. Default: target/image/pmon.tar
        #[arg(long)]
        archive: Option<PathBuf>,
    },
    /// Run the daemon on `examples/` in the foreground, with a live table.
    Run,
    /// Restarts and kills by the thousand, on the real kernel and in simulated time.
    Soak(soak::Options),
    /// Everything CI runs.
    Test {
        /// Only the tests on other kernels, in virtual machines.
        #[arg(long)]
        vm: bool,
        /// Write their result into `docs/kernel-support.md` instead of comparing.
        #[arg(long, requires = "vm")]
        write: bool,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().verb {
        Verb::Bench { arguments } => bench::bench(&arguments),
        Verb::Ebpf { check: false } => ebpf::build(),
        Verb::Ebpf { check: true } => ebpf::check().map(|_| ()),
        Verb::Image { binary, archive } => image::image(binary.as_deref(), archive.as_deref()),
        Verb::Run => run::run(),
        Verb::Soak(options) => soak::soak(&options),
        Verb::Test { vm: false, .. } => test::test(),
        Verb::Test { vm: true, write } => test::virtual_machines(write),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
